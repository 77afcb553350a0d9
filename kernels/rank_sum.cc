#include "kernels/rank_sum.h"

#include <algorithm>

#include "kernels/cuda/launchers.h"

namespace unipool {
namespace {

constexpr int64_t kBlock = 1024;  // elements that stay in the cache while all parts are added

template <class T>
void CpuSum(int64_t n, T* own, const char* parts, int64_t stride, int rank, int size) {
  T mine[kBlock];  // own numbers until their turn
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    std::copy_n(own + begin, count, mine);
    const auto part = [&](int r) {
      return r == rank ? mine : reinterpret_cast<const T*>(parts + r * stride) + begin;
    };
    T* sum = own + begin;
    if (rank != 0) std::copy_n(part(0), count, sum);
    for (int r = 1; r < size; ++r) {
      const T* x = part(r);
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) sum[i] += x[i];
    }
  }
}

}  // namespace

void SumInRankOrder(Stream& stream, const Tensor& own, const void* parts, int64_t stride, int rank,
                    int size) {
  CHECK(rank >= 0 && rank < size) << "rank " << rank << " of " << size;
  CHECK(size == 1 || stride >= own.bytes())
      << "SumInRankOrder: parts of " << own.bytes() << " bytes lie " << stride << " bytes apart";
  KernelScope scope(stream, Op::kReduce, static_cast<double>(size - 1) * own.size(),
                    (size + 1.0) * own.bytes());
  if (stream.device() == Device::kCuda) return cuda::SumInRankOrder(stream, own, parts, stride, rank, size);
  const auto sum = [&]<class T>() {
    CpuSum(own.size(), own.as<T>(), static_cast<const char*>(parts), stride, rank, size);
  };
  if (own.dtype == DType::kI32) return sum.template operator()<int32_t>();
  if (own.dtype == DType::kI64) return sum.template operator()<int64_t>();
  DispatchFloat(own.dtype, sum);
}

}  // namespace unipool
