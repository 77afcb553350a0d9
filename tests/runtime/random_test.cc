#include "runtime/random.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <set>
#include <vector>

namespace unipool {
namespace {

TEST(Random, PermutationIsOneForEverySmallSize) {
  for (uint64_t n = 1; n <= 300; ++n) {
    for (uint64_t key = 0; key < 5; ++key) {
      std::vector<int> hit(n);
      for (uint64_t i = 0; i < n; ++i) {
        const uint64_t image = RandomPermutation(key, n, i);
        ASSERT_LT(image, n);
        ++hit[image];
      }
      for (uint64_t i = 0; i < n; ++i) ASSERT_EQ(hit[i], 1) << n << " " << key << " " << i;
    }
  }
}

TEST(Random, PermutationOfLargeSizes) {
  for (const uint64_t n : {uint64_t{65'535}, uint64_t{65'536}, uint64_t{65'537}, uint64_t{100'003}}) {
    std::vector<bool> hit(n);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t image = RandomPermutation(n, n, i);
      ASSERT_LT(image, n);
      ASSERT_FALSE(hit[image]);
      hit[image] = true;
    }
  }
  std::set<uint64_t> images;
  for (uint64_t i = 0; i < 1000; ++i) images.insert(RandomPermutation(1, ~uint64_t{0}, i));
  EXPECT_EQ(images.size(), 1000u);
}

// Every position receives every element about equally often over keys: chi-square of a 6 x 6 table, 25
// degrees of freedom.
TEST(Random, PermutationsOfDifferentKeysAreSpreadEvenly) {
  constexpr int n = 6, kKeys = 6000;
  int count[n][n] = {};
  std::set<std::vector<uint64_t>> orders;
  for (uint64_t key = 0; key < kKeys; ++key) {
    std::vector<uint64_t> order;
    for (uint64_t i = 0; i < n; ++i) {
      order.push_back(RandomPermutation(key, n, i));
      ++count[i][order.back()];
    }
    orders.insert(order);
  }
  double chi_square = 0;
  for (auto& row : count) {
    for (int c : row) chi_square += (c - kKeys / n) * (c - kKeys / n) / (1.0 * kKeys / n);
  }
  EXPECT_LT(chi_square, 60);  // mean 25, exceeded by chance once in 10,000
  EXPECT_GT(orders.size(), 600u) << "of 720";
}

TEST(Random, BitsAreEvenAndUnrelated) {
  double flipped = 0, ones = 0;
  constexpr int kDraws = 4000;
  for (uint64_t c = 0; c < kDraws; ++c) {
    const uint64_t bits = RandomBits(5, c);
    ones += std::popcount(bits);
    flipped += std::popcount(bits ^ RandomBits(5, c + 1)) + std::popcount(bits ^ RandomBits(6, c)) +
               std::popcount(bits ^ RandomBits(6, c - 1));
  }
  EXPECT_NEAR(ones / kDraws, 32, 5 * 4 / std::sqrt(kDraws));
  EXPECT_NEAR(flipped / kDraws, 96, 5 * 7 / std::sqrt(kDraws));
}

TEST(Random, UniformAndNormalMoments) {
  constexpr int kDraws = 200'000;
  double sum = 0, normal[5] = {}, pairs = 0;
  for (uint64_t c = 0; c < kDraws; ++c) {
    const double u = RandomUniform(11, c), x = RandomNormal(12, c);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ASSERT_TRUE(std::isfinite(x));
    sum += u;
    for (int k = 1; k <= 4; ++k) normal[k] += std::pow(x, k);
    pairs += x * RandomNormal(12, c + 1);
  }
  const double error = 5 / std::sqrt(kDraws);  // five standard deviations of a mean of unit variance
  EXPECT_NEAR(sum / kDraws, 0.5, error / std::sqrt(12));
  EXPECT_NEAR(normal[1] / kDraws, 0, error);
  EXPECT_NEAR(normal[2] / kDraws, 1, error * std::sqrt(2));
  EXPECT_NEAR(normal[3] / kDraws, 0, error * std::sqrt(15));
  EXPECT_NEAR(normal[4] / kDraws, 3, error * std::sqrt(96));
  EXPECT_NEAR(pairs / kDraws, 0, error);
}

TEST(Random, ValuesStayWhatTheyAre) {  // they decide initial weights and the order of samples: a change
                                       // breaks resuming
  EXPECT_EQ(RandomBits(1, 2), RandomBits(1, 2));
  EXPECT_NE(RandomBits(1, 2), RandomBits(2, 1));
  EXPECT_NE(HashBytes("model.norm.weight"), HashBytes("model.norm.weigh"));
  EXPECT_NE(HashBytes(""), HashBytes(std::string_view("\0", 1)));
}

}  // namespace
}  // namespace unipool
