// Counter-based random numbers. A value is a pure function of (key, counter). So initial weights and sample
// orders are the same on every layout, and no state needs to be saved.
#pragma once

#include <cstdint>
#include <string_view>

namespace unipool {

uint64_t HashBytes(std::string_view text);             // the 64-bit key of a name
uint64_t RandomBits(uint64_t key, uint64_t counter);   // 64 uniform bits, as splitmix64 makes them
double RandomUniform(uint64_t key, uint64_t counter);  // uniform in [0, 1)
double RandomNormal(uint64_t key, uint64_t counter);   // N(0, 1): Box-Muller on counters 2c and 2c + 1
// The image of i under a permutation of 0 .. n - 1 that the key chooses. Takes O(1) memory (a Feistel network
// whose cycles are walked). REQUIRES: 0 <= i < n.
uint64_t RandomPermutation(uint64_t key, uint64_t n, uint64_t i);

}  // namespace unipool
