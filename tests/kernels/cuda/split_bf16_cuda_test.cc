#include <bit>
#include <cmath>
#include <random>

#include "kernels/split_bf16.h"
#include "tests/kernels/cuda/cuda_bits.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaSplitBf16 = CudaTest;

double ValueOf(uint16_t bits) {
  return double{std::bit_cast<float>(uint32_t{bits} << 16)};
}

// The BF16 nearest to x, the even one of two: by comparing x with its neighbours.
uint16_t Nearest(double x) {
  const auto below = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(x)) >> 16);
  const double down = std::abs(x) - std::abs(ValueOf(below));
  const double up = std::abs(ValueOf(static_cast<uint16_t>(below + 1))) - std::abs(x);
  if (down != up) return static_cast<uint16_t>(down < up ? below : below + 1);
  return static_cast<uint16_t>(below % 2 == 0 ? below : below + 1);
}

// `offsets`: bytes behind 16 at which x, high and low begin.
void SplitAndCompare(int64_t n, const std::array<int64_t, 3>& offsets) {
  SCOPED_TRACE(testing::Message() << n << " at " << offsets[0] << ", " << offsets[1] << ", " << offsets[2]);
  std::mt19937_64 random(n + 1);
  std::vector<float> x(n);
  for (float& value : x)
    value = std::ldexp(static_cast<float>(random() >> 40) - 0x1p23f, static_cast<int>(random() % 41) - 40);
  if (n > 5) {
    x[0] = 1 + 0x1p-8f;  // halfway, to the even one below
    x[1] = 1 + 0x3p-8f;  // and above
    x[2] = -0.0f;
    x[3] = 0x1p-149f;
    x[4] = -1 - 0x1p-8f - 0x1p-16f;
  }
  std::vector<uint16_t> high(n), low(n);
  for (int64_t i = 0; i < n; ++i) {
    high[i] = Nearest(x[i]);
    low[i] = Nearest(x[i] - ValueOf(high[i]));
    const double both = ValueOf(high[i]) + ValueOf(low[i]);
    ASSERT_LE(std::abs(both - x[i]), 0x1p-16 * std::abs(x[i]) + 0x1p-133) << x[i];
  }
  ForEachCudaRun([&](CudaRun& run) {
    const std::vector<uint16_t> poison(n, 0xffff);
    float* from = run.Put(x, "x", offsets[0]);
    uint16_t *upper = run.Put(poison, "high", offsets[1]), *lower = run.Put(poison, "low", offsets[2]);
    SplitBf16(run.stream(), Tensor(from, DType::kF32, {n}), Tensor(upper, DType::kBF16, {n}),
              Tensor(lower, DType::kBF16, {n}));
    EXPECT_EQ(run.Get(upper, n), high);
    EXPECT_EQ(run.Get(lower, n), low);
  });
}

TEST_F(CudaSplitBf16, HighAndLow) {
  for (const int64_t n : {0, 1, 3, 4, 7, 4096, 4099, 9001}) {
    SplitAndCompare(n, {0, 0, 0});
    SplitAndCompare(n, {0, 8, 0});
    SplitAndCompare(n, {4, 0, 0});
    SplitAndCompare(n, {0, 0, 2});
  }
}

}  // namespace
}  // namespace unipool
