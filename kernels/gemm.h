// Dense products, row-major. On the CPU F32 runs on gemm_blocked.h (tools/bench/gemm_libraries compares it
// with BLAS libraries at expert sizes); F64 is a plain loop nest for the gradient tests. On a CUDA device F32
// and BF16 run on cuBLAS, with sums in F32 (no TF32). Types: a and b of one dtype, which c has too; c of a
// BF16 product may also be F32.
#pragma once

#include "runtime/stream.h"

namespace unipool {

enum class Trans : bool { kNo, kYes };

// c = op(a) op(b) + beta * c, with op(a) [m, k], op(b) [k, n], c [m, n]; op transposes when asked. beta 0
// overwrites c (it may hold anything, NaN too). Zero-sized dims are allowed; k = 0 gives beta * c. 2 m n k
// operations; moves m k + k n elements and c once, twice if beta is not 0.
void Gemm(Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta,
          const Tensor& c);

// The same on sub-matrices: rows of a, b, c lie lda, ldb, ldc elements apart. No KernelScope: for use inside
// kernels.
struct GemmShape {
  int64_t m, n, k;
};
template <class T>
void GemmStrided(Trans trans_a, Trans trans_b, GemmShape shape, T alpha, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T beta, T* c, int64_t ldc);  // instantiated for float and double

}  // namespace unipool
