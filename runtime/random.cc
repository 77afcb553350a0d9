#include "runtime/random.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio

// The finalizer of splitmix64: a bijection of 64 bits in which every input bit changes half of the output
// bits.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// (0, 1], so that its logarithm is finite.
double OpenUniform(uint64_t bits) {
  return static_cast<double>((bits >> 11) + 1) * 0x1p-53;
}

}  // namespace

uint64_t HashBytes(std::string_view text) {
  uint64_t hash = Mix(text.size() + kGolden);
  for (const char c : text) hash = Mix((hash + kGolden) ^ static_cast<unsigned char>(c));
  return hash;
}

// splitmix64 started at a mixed key, so that neighbouring keys give unrelated streams.
uint64_t RandomBits(uint64_t key, uint64_t counter) {
  return Mix(Mix(key + kGolden) + (counter + 1) * kGolden);
}

double RandomUniform(uint64_t key, uint64_t counter) {
  return static_cast<double>(RandomBits(key, counter) >> 11) * 0x1p-53;
}

double RandomNormal(uint64_t key, uint64_t counter) {
  const double radius = std::sqrt(-2 * std::log(OpenUniform(RandomBits(key, 2 * counter))));
  return radius * std::cos(2 * std::numbers::pi * RandomUniform(key, 2 * counter + 1));
}

// A Feistel network permutes [0, 4^b), the smallest such range that holds n; walking its cycle from i until
// the image is below n restricts it to a permutation of [0, n), in fewer than 4 steps on average.
uint64_t RandomPermutation(uint64_t key, uint64_t n, uint64_t i) {
  CHECK_LT(i, n);
  constexpr int kRounds = 6;
  const int half_bits = (std::bit_width(n - 1) + 1) / 2;
  const uint64_t half_mask = (uint64_t{1} << half_bits) - 1;
  const uint64_t round_key = Mix(key ^ kGolden);
  do {
    uint64_t left = i >> half_bits, right = i & half_mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (RandomBits(round_key + round, right) & half_mask);
      left = right;
      right = next;
    }
    i = (left << half_bits) | right;
  } while (i >= n);
  return i;
}

}  // namespace unipool
