#include "kernels/gemm.h"

#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/gemm_blocked.h"
#include "kernels/cuda/launchers.h"

namespace unipool {

template <class T>
void GemmStrided(Trans trans_a, Trans trans_b, GemmShape shape, T alpha, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T beta, T* c, int64_t ldc) {
  GemmBlocked(trans_a, trans_b, shape, alpha, a, lda, b, ldb, beta, c, ldc, {});
}
template void GemmStrided(Trans, Trans, GemmShape, float, const float*, int64_t, const float*, int64_t, float,
                          float*, int64_t);
template void GemmStrided(Trans, Trans, GemmShape, double, const double*, int64_t, const double*, int64_t,
                          double, double*, int64_t);

namespace {

bool IsBf16(const Tensor& a, const Tensor& b) {
  return a.dtype == DType::kBF16 || b.dtype == DType::kBF16;
}

void Bf16OnHost(Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta, const Tensor& c) {
  const bool ta = trans_a == Trans::kYes, tb = trans_b == Trans::kYes;
  CHECK(beta == 0 || beta == 1) << "BF16 on the CPU with beta " << beta;
  const Range k{0, a.dim(ta ? 0 : 1)};
  Bf16Product(Bf16FunctionsOf(FastestBf16Unit()), {.m = c.dim(0),
                                                   .n = c.dim(1),
                                                   .a = Bf16OperandOf(a, !ta),
                                                   .b = Bf16OperandOf(b, tb),
                                                   .k = {&k, 1},
                                                   .add = beta == 1,
                                                   .c = c.as<float>(),
                                                   .ldc = c.dim(1)});
}

}  // namespace

void Gemm(Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta,
          const Tensor& c) {
  const bool rounds = stream.device() == Device::kCpu && IsBf16(a, b);
  Gemm(stream, trans_a, a, trans_b, b, beta, c, rounds ? DType::kBF16 : a.dtype);
}

void Gemm(Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta,
          const Tensor& c, DType operands) {
  const bool ta = trans_a == Trans::kYes, tb = trans_b == Trans::kYes;
  const GemmShape shape{c.dim(0), c.dim(1), a.dim(ta ? 0 : 1)};
  CHECK(a.num_dims == 2 && b.num_dims == 2 && c.num_dims == 2 && a.dim(ta ? 1 : 0) == shape.m &&
        b.dim(tb ? 1 : 0) == shape.k && b.dim(tb ? 0 : 1) == shape.n)
      << (ta ? "transposed " : "") << a.ShapeString() << " times " << (tb ? "transposed " : "")
      << b.ShapeString() << " into " << c.ShapeString();
  const bool on_cuda = stream.device() == Device::kCuda, rounds = !on_cuda && operands == DType::kBF16;
  if (rounds) {
    CHECK(IsBf16Operand(a) && IsBf16Operand(b) && c.dtype == DType::kF32)
        << NameOf(a.dtype) << " " << NameOf(b.dtype) << " " << NameOf(c.dtype);
  } else {
    CHECK(a.dtype == b.dtype && a.dtype == operands &&
          (c.dtype == a.dtype || c.dtype == AccumulatorOf(a.dtype)))
        << NameOf(a.dtype) << " " << NameOf(b.dtype) << " " << NameOf(c.dtype) << " as " << NameOf(operands);
  }
  const double c_bytes = static_cast<double>(c.bytes()) * (beta == 0 ? 1 : 2);
  KernelScope scope(stream, Op::kGemm, 2.0 * shape.m * shape.n * shape.k, a.bytes() + b.bytes() + c_bytes);
  if (on_cuda) return cuda::Gemm(stream, trans_a, a, trans_b, b, beta, c);
  if (rounds) return Bf16OnHost(trans_a, a, trans_b, b, beta, c);
  DispatchFloat(a.dtype, [&]<class T>() {
    GemmStrided<T>(trans_a, trans_b, shape, 1, a.as<T>(), a.dim(1), b.as<T>(), b.dim(1), beta, c.as<T>(),
                   c.dim(1));
  });
}

}  // namespace unipool
