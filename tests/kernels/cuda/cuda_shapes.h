// The shapes that every CUDA kernel is compared at.
#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

namespace unipool {

// Kernels over rows. Widths that allow 16-byte accesses and widths that do not, shorter and longer than what
// a warp or a block takes at once.
struct RowShape {
  int64_t rows, width;
};
inline std::ostream& operator<<(std::ostream& out, const RowShape& shape) {
  return out << shape.rows << " rows of " << shape.width;
}
inline std::vector<RowShape> RowShapes() {
  return {{0, 64}, {1, 1}, {1, 8}, {3, 17}, {5, 100}, {33, 256}, {2, 1000}, {9, 2055}, {2, 4224}, {300, 48}};
}

// Rows that were routed to experts. `spread` says how unequally.
enum class ExpertSpread { kEven, kSkewed, kAllToOne };
struct ExpertShape {
  int64_t tokens, experts, top_k;
  ExpertSpread spread;
};
inline std::ostream& operator<<(std::ostream& out, const ExpertShape& shape) {
  constexpr const char* kNames[] = {"evenly", "unequally", "all to one"};
  return out << shape.tokens << " tokens to " << shape.top_k << " of " << shape.experts << " experts, "
             << kNames[static_cast<int>(shape.spread)];
}
inline std::vector<ExpertShape> ExpertShapes() {
  return {{0, 8, 2, ExpertSpread::kEven},      {1, 1, 1, ExpertSpread::kEven},
          {7, 5, 1, ExpertSpread::kAllToOne},  {33, 96, 1, ExpertSpread::kSkewed},
          {64, 32, 8, ExpertSpread::kEven},    {65, 130, 4, ExpertSpread::kSkewed},
          {130, 7, 2, ExpertSpread::kAllToOne}};
}

}  // namespace unipool
