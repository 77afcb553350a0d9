#include <random>

#include "kernels/rank_sum.h"
#include "tests/kernels/cuda/cuda_bits.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaRankSum = CudaTest;

// `gap` elements between the parts; arrays begin `offset` elements behind 16 bytes. The definition's bits.
template <class T>
void CompareSum(int64_t n, int size, int rank, int64_t gap, int64_t offset) {
  SCOPED_TRACE(testing::Message() << n << " x " << sizeof(T) << " bytes, rank " << rank << " of " << size
                                  << ", gap " << gap << ", offset " << offset);
  std::mt19937_64 random(n + size);
  // Magnitudes differ, so that another order gives another sum.
  const auto draw = [&] {
    return static_cast<T>(std::ldexp(static_cast<double>(random()) * 0x1p-63 - 1, random() % 9));
  };
  std::vector<T> own(n), parts(size * (n + gap));
  for (T& x : own) x = draw();
  for (T& x : parts) x = draw();
  const auto stride = static_cast<int64_t>((n + gap) * sizeof(T));
  std::vector<T> expected = own;
  MemoryMeter meter;
  Stream cpu(meter);
  SumInRankOrder(cpu, Tensor(expected.data(), DTypeOf<T>::value, {n}), parts.data(), stride, rank, size);
  ForEachCudaRun([&](CudaRun& run) {
    const auto bytes = static_cast<int64_t>(offset * sizeof(T));
    T* sum = run.Put(own, "own", bytes);
    const T* device_parts = run.Put(parts, "parts", bytes);
    SumInRankOrder(run.stream(), Tensor(sum, DTypeOf<T>::value, {n}), device_parts, stride, rank, size);
    EXPECT_EQ(run.Get(sum, n), expected);
    EXPECT_EQ(run.Get(device_parts, static_cast<int64_t>(parts.size())), parts);
  });
}

template <class T>
void CompareSums() {
  for (const int64_t n : {0, 1, 3, 8, 1029}) {
    for (const auto& [size, rank] : {std::pair{1, 0}, {2, 0}, {2, 1}, {5, 2}, {8, 7}, {9, 8}, {17, 3}}) {
      CompareSum<T>(n, size, rank, (4 - n % 4) % 4, 0);
      CompareSum<T>(n, size, rank, 1 - n % 2, 0);
      CompareSum<T>(n, size, rank, (4 - n % 4) % 4, 1);
    }
  }
}

TEST_F(CudaRankSum, BitsOfTheDefinition) {
  CompareSums<float>();
  CompareSums<double>();
}

}  // namespace
}  // namespace unipool
