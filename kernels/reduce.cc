#include "kernels/reduce.h"

#include <algorithm>
#include <cstring>

#include "kernels/check_tensor.h"
#include "kernels/vector_reduce.h"

namespace unipool {
namespace {

// Blocks keep the partial sums short, so that billions of elements lose no digits.
constexpr int64_t kBlock = 1 << 16;

template <class T, class Term>
double BlockedSum(const Tensor& x, Term term) {
  const T* values = x.as<T>();
  const int64_t n = x.size();
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    sum += VectorSum<double>(count, [=](auto at) { return term(at(values + begin)); });
  }
  return sum;
}

template <class T>
void FillWith(const Tensor& x, double value) {
  std::fill_n(x.as<T>(), x.size(), static_cast<T>(value));
}

}  // namespace

double SumOfSquares(Stream& stream, const Tensor& x) {
  KernelScope scope(stream, Op::kReduce, 2.0 * x.size(), x.bytes());
  double sum = 0;
  DispatchFloat(x.dtype,
                [&]<class T>() { sum = BlockedSum<T>(x, [](const auto& value) { return value * value; }); });
  return sum;
}

double Sum(Stream& stream, const Tensor& x) {
  KernelScope scope(stream, Op::kReduce, x.size(), x.bytes());
  double sum = 0;
  DispatchFloat(x.dtype, [&]<class T>() { sum = BlockedSum<T>(x, [](const auto& value) { return value; }); });
  return sum;
}

void AddInPlace(Stream& stream, const Tensor& x, const Tensor& y) {
  CheckSameSize("AddInPlace y", y, x);
  KernelScope scope(stream, Op::kReduce, x.size(), 3.0 * x.bytes());
  DispatchFloat(x.dtype, [&]<class T>() {
    const T* from = x.as<T>();
    T* to = y.as<T>();
    const int64_t n = x.size();
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] += from[i];
  });
}

void Fill(Stream& stream, const Tensor& x, double value) {
  KernelScope scope(stream, Op::kReduce, 0, x.bytes());
  switch (x.dtype) {
    case DType::kF32:
      return FillWith<float>(x, value);
    case DType::kF64:
      return FillWith<double>(x, value);
    case DType::kI32:
      return FillWith<int32_t>(x, value);
    case DType::kI64:
      return FillWith<int64_t>(x, value);
    case DType::kBF16:
      LOG(FATAL) << "no CPU Fill for dtype " << NameOf(x.dtype);
  }
}

void Copy(Stream& stream, const Tensor& src, const Tensor& dst) {
  CheckSameSize("Copy dst", dst, src);
  KernelScope scope(stream, Op::kReduce, 0, 2.0 * src.bytes());
  if (src.bytes() > 0) std::memcpy(dst.data, src.data, src.bytes());
}

}  // namespace unipool
