// Dense products, row-major.
// On a CUDA device F32 and BF16 run on cuBLAS, with sums in F32 (no TF32). a and b have one dtype, which c
// has too; c of a BF16 product may also be F32.
// On the CPU F32 runs on cpu/gemm_blocked.h, and F64 is a plain loop nest for the gradient tests; a, b and c
// have one dtype. BF16 runs on cpu/bf16_product.h (BF16_CPU.md): a and b are F32 or BF16 each, and c is F32.
// It is taken where one of them is BF16, and where `operands` says so. tools/bench/GEMM_LIBRARIES.md compares
// the CPU's F32 product with BLAS libraries at the sizes of experts.
#pragma once

#include "runtime/stream.h"

namespace unipool {

enum class Trans : bool { kNo, kYes };

// c = op(a) op(b) + beta * c, with op(a) [m, k], op(b) [k, n], c [m, n]. op transposes when asked. beta 0
// overwrites c, which may then hold anything, NaN too. Zero-sized dims are allowed, and k = 0 gives beta * c.
// It takes 2 m n k operations. It moves m k + k n elements, and c once, or twice if beta is not 0.
void Gemm(Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta,
          const Tensor& c);
// The same of numbers that are first rounded to `operands`: BF16 on the CPU where a and b are F32. Otherwise
// it REQUIRES the type of a. BF16 on the CPU takes beta 0 or 1.
void Gemm(Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta,
          const Tensor& c, DType operands);

// The same on sub-matrices, for use inside CPU kernels. Rows of a, b, c lie lda, ldb, ldc elements apart. It
// books no cost (no KernelScope). Instantiated for float and double.
struct GemmShape {
  int64_t m, n, k;
};
template <class T>
void GemmStrided(Trans trans_a, Trans trans_b, GemmShape shape, T alpha, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T beta, T* c, int64_t ldc);

}  // namespace unipool
