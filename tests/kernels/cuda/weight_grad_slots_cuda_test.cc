#include "kernels/grouped_gemm.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

// Experts [first, first + count) take part; the rows of the others lie between theirs.
struct SlotsShape {
  std::vector<std::vector<int64_t>> rows;  // of each expert in each slot
  int64_t first, count, outer, inner;
  std::vector<std::vector<int64_t>> Offsets() const {
    std::vector<std::vector<int64_t>> offsets;
    int64_t end = 0;
    for (const auto& slot : rows) {
      offsets.push_back({end});
      for (const int64_t of_expert : slot) offsets.back().push_back(end += of_expert);
    }
    return offsets;
  }
  int64_t NumRows() const {
    int64_t sum = 0;
    for (const auto& slot : rows) {
      for (const int64_t of_expert : slot) sum += of_expert;
    }
    return sum;
  }
  int64_t RowsOf(int64_t e) const {  // counted from `first`
    int64_t sum = 0;
    for (const auto& slot : rows) sum += slot[first + e];
    return sum;
  }
};
std::ostream& operator<<(std::ostream& out, const SlotsShape& s) {
  out << s.count << " experts from " << s.first << " of " << s.outer << " x " << s.inner << ", rows";
  for (const auto& slot : s.rows) {
    out << " /";
    for (const int64_t count : slot) out << " " << count;
  }
  return out;
}

// Around the slices of 32 rows, ranges of one row one behind the other, ranges longer than all slices that
// are copied ahead, slots and experts without rows, matrices off the tiles, more than one launch takes.
std::vector<SlotsShape> SlotsShapes() {
  using Slots = std::vector<std::vector<int64_t>>;
  return {{{}, 0, 2, 8, 16},
          {{{0, 0}, {0, 0}}, 0, 2, 8, 16},
          {{{33}, {31}, {32}, {1}}, 0, 1, 136, 72},
          {{{1, 31, 0, 5}, {0, 0, 0, 0}, {1, 64, 0, 40}, {3, 65, 0, 0}, {1, 2, 0, 0}}, 0, 4, 24, 264},
          {{{160, 7}, {1, 0}, {97, 130}}, 0, 2, 40, 16},
          {{{3, 9, 20, 5, 1}, {4, 0, 31, 0, 6}, {2, 33, 0, 0, 8}}, 1, 3, 32, 48},
          {Slots(kMostWeightGradSlots, std::vector<int64_t>(32, 1)), 1, 31, 8, 8}};
}

// Rows of experts that take no part are NaN.
CudaCase::Handle RowsIn(CudaCase& c, const char* name, const SlotsShape& s, int64_t width) {
  std::vector<double> values;
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (const auto& slot : s.rows) {
    for (size_t e = 0; e < slot.size(); ++e) {
      const bool inside = static_cast<int64_t>(e) >= s.first && static_cast<int64_t>(e) < s.first + s.count;
      for (int64_t i = 0; i < slot[e] * width; ++i) {
        values.push_back(inside ? uniform(c.random()) : std::numeric_limits<double>::quiet_NaN());
      }
    }
  }
  return c.InValues(name, {s.NumRows(), width}, std::move(values), ArrayType::kData);
}

// Every second expert has a gradient already. What has no gradient and no rows stays as it was: 3.
void RunSlots(CudaCase& c, const SlotsShape& s) {
  const int64_t size = s.outer * s.inner;
  std::vector<uint8_t> has_grad(s.count);
  std::vector<double> before(s.count * size);
  int64_t most_rows = 0;
  for (int64_t e = 0; e < s.count; ++e) {
    has_grad[e] = e % 2;
    const double fill = has_grad[e] || s.RowsOf(e) == 0 ? 3 : std::numeric_limits<double>::quiet_NaN();
    std::fill_n(before.begin() + e * size, size, fill);
    most_rows = std::max(most_rows, s.RowsOf(e));
  }
  const auto offsets = s.Offsets();
  std::vector<GroupOffsets> slots;
  for (const auto& slot : offsets) slots.push_back(GroupOffsets(slot).subspan(s.first, s.count + 1));
  const auto dy = RowsIn(c, "dy", s, s.outer), x = RowsIn(c, "x", s, s.inner);
  const auto dw = c.InOutValues("dw", {s.count, s.outer, s.inner}, before,
                                {.relative = 1e-6, .absolute = 1.2e-7 * static_cast<double>(most_rows + 4)},
                                ArrayType::kAccumulator);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    auto flags = has_grad;
    GroupedGemmWeightGradOfSlots(stream, slots, t[dy], t[x], t[dw], flags);
    for (int64_t e = 0; e < s.count; ++e) EXPECT_EQ(flags[e], has_grad[e] || s.RowsOf(e) > 0) << e;
  });
}

using CudaWeightGradSlotsBlas = CudaBlasTest;
TEST_F(CudaWeightGradSlotsBlas, F32SumsAllSlots) {
  ForEachCase(SlotsShapes(), [](CudaCase& c, const SlotsShape& s) {
    if (c.dtype() == DType::kF32) RunSlots(c, s);
  });
}

using CudaWeightGradSlots = CudaTest;
TEST_F(CudaWeightGradSlots, Bf16SumsAllSlots) {
  ForEachCase(SlotsShapes(), [](CudaCase& c, const SlotsShape& s) {
    if (c.dtype() == DType::kBF16 && !c.unaligned()) RunSlots(c, s);
  });
}

}  // namespace
}  // namespace unipool
