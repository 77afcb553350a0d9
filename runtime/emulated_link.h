// The links of the emulated cluster (emulated_communicator.h): when blocks may use a link that carries one at
// a time. All times are virtual seconds.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace unipool {

// The link on which a rank sends. Blocks leave in the order in which Take is called.
class OutgoingLink {
 public:
  // When a block begins to leave that is ready at `ready` and takes `seconds`.
  double Take(double ready, double seconds) {
    const double begin = ready > free_at_ ? ready : free_at_;
    free_at_ = begin + seconds;
    return begin;
  }

 private:
  double free_at_ = 0;
};

// The link on which a rank receives. A rank learns of blocks in the order in which it waits for them, which
// is not the order in which they come. So each block takes the first gap that is left. The link remembers its
// last 256 busy times; a gap before them is never taken.
class IncomingLink {
 public:
  IncomingLink() { busy_.reserve(kMostKept + 1); }
  // When a block begins to be received whose first byte comes at `ready` and which takes `seconds`. Example:
  // after Take(0, 1) and Take(5, 1), Take(0, 2) returns 1, and Take(0, 3) then returns 6.
  double Take(double ready, double seconds);

 private:
  static constexpr size_t kMostKept = 256;
  // [begin, end) of busy times, ascending. Neighbours do not touch.
  std::vector<std::pair<double, double>> busy_;
  double forgotten_until_ = 0;
};

}  // namespace unipool
