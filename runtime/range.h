// A range of consecutive numbers, and the even partition by which ranks, stages and parts share work.
#pragma once

#include <cstdint>

namespace unipool {

// The numbers begin, begin + 1, ..., end - 1.
struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// Part p of the numbers 0 .. n - 1, cut into `parts` consecutive ranges. Their sizes differ by at most one,
// and the larger parts come first. Example: 5 numbers in 2 parts are 0 .. 2 and 3 .. 4.
// REQUIRES: 0 <= p < parts.
Range EvenPartition(int64_t n, int parts, int p);

}  // namespace unipool
