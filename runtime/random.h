// Counter-based random numbers: a value is a pure function of (key, counter), so initial weights and sample
// orders are the same on every layout and need no state to be saved.
#pragma once

#include <cstdint>
#include <string_view>

namespace unipool {

uint64_t HashBytes(std::string_view text);             // 64-bit key of a name
uint64_t RandomBits(uint64_t key, uint64_t counter);   // uniform 64 bits (Philox or splitmix construction)
double RandomUniform(uint64_t key, uint64_t counter);  // [0, 1)
double RandomNormal(uint64_t key, uint64_t counter);   // N(0, 1), Box-Muller on counters 2c, 2c+1
// A permutation of [0, n) in O(1) memory: the image of i (cycle-walking Feistel network). REQUIRES: 0 <= i <
// n.
uint64_t RandomPermutation(uint64_t key, uint64_t n, uint64_t i);

}  // namespace unipool
