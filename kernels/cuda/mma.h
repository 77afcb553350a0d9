// The tensor cores' and the copy engine's instructions that all our architectures (sm_80 and later) have, one
// function each. On the host the tests execute them with the documented register layouts.
//
// Layouts of m16n8k16, with g = lane / 4 and t = lane % 4; a register of two bf16 holds the lower index in
// its low half:
//   a[0] = A[g][2t, 2t+1]   a[1] = A[g+8][2t, 2t+1]   a[2] = A[g][2t+8, 2t+9]   a[3] = A[g+8][2t+8, 2t+9]
//   b[0] = B[2t, 2t+1][g]   b[1] = B[2t+8, 2t+9][g]
//   d[0], d[1] = D[g][2t, 2t+1]   d[2], d[3] = D[g+8][2t, 2t+1]
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

namespace unipool::cuda {

// D [16, 8] += A [16, 16] B [16, 8] in F32. All 32 lanes call it.
__device__ inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  ::unipool::emulation::MmaBf16(d, a, b);
#endif
}

// Four 8 x 8 matrices of bf16 from shared memory: lane i names row i % 8 of matrix i / 8 (16 bytes, aligned).
// matrix[m] gets elements 2t, 2t+1 of row g of matrix m; transposed: of column g. All 32 lanes call it.
__device__ inline void LoadMatrices(uint32_t (&matrix)[4], const Bf16* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  ::unipool::emulation::LoadMatrices(matrix, row, false);
#endif
}
__device__ inline void LoadMatricesTransposed(uint32_t (&matrix)[4], const Bf16* row) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  ::unipool::emulation::LoadMatrices(matrix, row, true);
#endif
}

// Copies 16 bytes from global to shared memory without waiting, or writes zeros if not `valid` (then `global`
// is not read, but must be a mapped address). The thread sees them after WaitCopies, others after a barrier
// behind that.
__device__ inline void CopyAsync16(void* shared, const void* global, bool valid) {
#ifdef __CUDACC__
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(shared))),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
#else
  ::unipool::emulation::Machine::Current().CopyAsync(shared, valid ? global : nullptr, 16);
#endif
}
// Ends a group of copies.
__device__ inline void CommitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  ::unipool::emulation::Machine::Current().CommitCopies();
#endif
}
// Waits for all groups of this thread but the newest kPending.
template <int kPending>
__device__ inline void WaitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#else
  ::unipool::emulation::Machine::Current().WaitCopies(kPending);
#endif
}

// Two floats as one register of bf16, the first in the low half.
__device__ inline uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &both, sizeof(bits));
  return bits;
}

}  // namespace unipool::cuda
