// When blocks may use a link that carries one at a time.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace unipool {

// The link on which a rank sends: blocks leave in the order in which they are given to it.
class OutgoingLink {
 public:
  // When a block that is ready at `ready` and takes `seconds` begins to leave.
  double Take(double ready, double seconds) {
    const double begin = ready > free_at_ ? ready : free_at_;
    free_at_ = begin + seconds;
    return begin;
  }

 private:
  double free_at_ = 0;
};

// The link on which a rank receives. A rank learns of blocks in the order in which it waits for them, not in
// the order in which they come, so each takes the first gap that is left. Gaps older than the last few
// hundred busy times are forgotten.
class IncomingLink {
 public:
  IncomingLink() { busy_.reserve(kMostKept + 1); }
  // When a block whose first byte comes at `ready` and which takes `seconds` begins to be received.
  double Take(double ready, double seconds);

 private:
  static constexpr size_t kMostKept = 256;
  std::vector<std::pair<double, double>> busy_;  // [begin, end), ascending; neighbours do not touch
  double forgotten_until_ = 0;
};

}  // namespace unipool
