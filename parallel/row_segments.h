// Copies rows between the order of each source and the order of the experts' batch, on one device. Both
// orders consist of the same segments (dispatch_plan.h), so rows move in few large copies.
#pragma once

#include <span>
#include <vector>

#include "kernels/copy_segments.h"
#include "parallel/dispatch_plan.h"
#include "runtime/range.h"

namespace unipool {

class RowSegments {
 public:
  // `stream` must outlive it. Plans have at most max_segments = W * E segments.
  RowSegments(Stream& stream, int64_t row_bytes, int64_t max_segments);

  // sources[q] is where the rows of source q begin (unused where it has none). `batch` is [R, row_bytes],
  // expert-major. Only rows of `experts` move, a range of the plan's. Moves 2 * row_bytes for each of them.
  void Gather(const OwnerPlan& plan, Range experts, std::span<char* const> sources, void* batch);
  // The inverse. Moves as much.
  void Scatter(const OwnerPlan& plan, Range experts, const void* batch, std::span<char* const> sources);

 private:
  template <class Make>
  void CopyAll(const OwnerPlan& plan, Range experts, Make make);

  Stream& stream_;
  const int64_t row_bytes_;
  std::vector<Segment> segments_;  // of one copy; keeps its memory
};

}  // namespace unipool
