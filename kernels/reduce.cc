#include "kernels/reduce.h"

#include <algorithm>
#include <cstring>

#include "kernels/check_tensor.h"
#include "kernels/cpu/bf16_bits.h"
#include "kernels/cpu/vector_reduce.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/scratch.h"

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

void CopyToBf16(const Tensor& src, const Tensor& dst) {
  RoundToBf16(src.as<float>(), src.size(), static_cast<uint16_t*>(dst.data));
}
void CopyFromBf16(const Tensor& src, const Tensor& dst) {
  const auto* from = static_cast<const uint16_t*>(src.data);
  std::transform(from, from + src.size(), dst.as<float>(), FromBf16);
}

double CpuSum(cuda::SumOf what, const Tensor& x) {
  double sum = 0;
  DispatchFloat(x.dtype, [&]<class T>() {
    sum = what == cuda::SumOf::kSquares ? BlockedSum<T>(x, [](const auto& value) { return value * value; })
                                        : BlockedSum<T>(x, [](const auto& value) { return value; });
  });
  return sum;
}

double SumFlops(cuda::SumOf what, const Tensor& x) {
  return (what == cuda::SumOf::kSquares ? 2.0 : 1.0) * x.size();
}

void AddedSum(Stream& stream, cuda::SumOf what, const Tensor& x, const Tensor& sum) {
  CheckTensor("the sum of AddSum or AddSumOfSquares", sum, DType::kF64, {1});
  KernelScope scope(stream, Op::kReduce, SumFlops(what, x), x.bytes());
  if (stream.device() == Device::kCuda) return cuda::AddSum(stream, what, x, sum);
  sum.as<double>()[0] += CpuSum(what, x);
}

}  // namespace

int64_t AddSumScratchBytes(Device device) {
  return device == Device::kCuda ? cuda::kMostSumPartials * int64_t{sizeof(double)} : 0;
}

void AddSumOfSquares(Stream& stream, const Tensor& x, const Tensor& sum) {
  AddedSum(stream, cuda::SumOf::kSquares, x, sum);
}

void AddSum(Stream& stream, const Tensor& x, const Tensor& sum) {
  AddedSum(stream, cuda::SumOf::kValues, x, sum);
}

void Fill(Stream& stream, const Tensor& x, double value) {
  KernelScope scope(stream, Op::kReduce, 0, x.bytes());
  if (stream.device() == Device::kCuda) return cuda::Fill(stream, x, value);
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

void RaiseToLeast(Stream& stream, const Tensor& x, double least) {
  KernelScope scope(stream, Op::kReduce, x.size(), 2.0 * x.bytes());
  if (stream.device() == Device::kCuda) return cuda::RaiseToLeast(stream, x, least);
  DispatchFloat(x.dtype, [&]<class T>() {
    T* const values = x.as<T>();
    std::transform(values, values + x.size(), values, [least](T value) {
      return value < static_cast<T>(least) ? static_cast<T>(least) : value;
    });
  });
}

void Copy(Stream& stream, const Tensor& src, const Tensor& dst) {
  const bool to_bf16 = src.dtype == DType::kF32 && dst.dtype == DType::kBF16;
  const bool from_bf16 = src.dtype == DType::kBF16 && dst.dtype == DType::kF32;
  Tensor expected = src;
  if (to_bf16 || from_bf16) expected.dtype = dst.dtype;
  CheckSameSize("Copy dst", dst, expected);
  KernelScope scope(stream, Op::kReduce, 0, static_cast<double>(src.bytes()) + dst.bytes());
  if (stream.device() == Device::kCuda) return cuda::Copy(stream, src, dst);
  if (to_bf16) return CopyToBf16(src, dst);
  if (from_bf16) return CopyFromBf16(src, dst);
  if (src.bytes() > 0) std::memcpy(dst.data, src.data, src.bytes());
}

}  // namespace unipool
