#include "kernels/grouped_gemm.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaGroupedGemm = CudaBlasTest;

struct GroupShape {
  std::vector<int64_t> rows;  // of each expert
  int64_t outer, inner;
  std::vector<int64_t> Offsets() const {
    std::vector<int64_t> offsets{0};
    for (const int64_t count : rows) offsets.push_back(offsets.back() + count);
    return offsets;
  }
  int64_t num_experts() const { return static_cast<int64_t>(rows.size()); }
};
std::ostream& operator<<(std::ostream& out, const GroupShape& s) {
  out << s.outer << " x " << s.inner << ", rows";
  for (const int64_t count : s.rows) out << " " << count;
  return out;
}
// Nothing at all, empty experts everywhere, all rows to one, sizes off every tile.
std::vector<GroupShape> GroupShapes() {
  return {{{0}, 8, 16},
          {{1}, 24, 16},
          {{100}, 40, 48},
          {{0, 0, 70, 0}, 32, 64},
          {{0, 5, 16, 0, 1, 33, 4, 0}, 136, 72},
          {{12, 64, 31, 200}, 64, 272},
          {std::vector<int64_t>(200, 3), 16, 8}};
}

Bound SumOf(int64_t terms) {
  return {.relative = 1e-6, .absolute = 1.2e-7 * static_cast<double>(terms + 4)};
}

TEST_F(CudaGroupedGemm, Forward) {
  ForEachCase(GroupShapes(), [](CudaCase& c, const GroupShape& s) {
    if (c.unaligned()) return;  // refused, see grouped_gemm.h
    const auto offsets = s.Offsets();
    const auto x = c.In("x", {offsets.back(), s.inner}, -1, 1);
    const auto w = c.In("w", {s.num_experts(), s.outer, s.inner}, -1, 1);
    const auto y = c.Out("y", {offsets.back(), s.outer}, SumOf(s.inner));
    c.Run(
        [&](Stream& stream, const CaseTensors& t) { GroupedGemmForward(stream, offsets, t[x], t[w], t[y]); });
  });
}

TEST_F(CudaGroupedGemm, InputGradient) {
  ForEachCase(GroupShapes(), [](CudaCase& c, const GroupShape& s) {
    if (c.unaligned()) return;
    const auto offsets = s.Offsets();
    const auto dy = c.In("dy", {offsets.back(), s.outer}, -1, 1);
    const auto w = c.In("w", {s.num_experts(), s.outer, s.inner}, -1, 1);
    const auto dx = c.Out("dx", {offsets.back(), s.inner}, SumOf(s.outer));
    c.Run([&](Stream& stream, const CaseTensors& t) {
      GroupedGemmInputGrad(stream, offsets, t[dy], t[w], t[dx]);
    });
  });
}

// Every second expert has a gradient already. What has no gradient and no rows stays as it was: 3.
void RunWeightGradient(CudaCase& c, const GroupShape& s) {
  const auto offsets = s.Offsets();
  const int64_t size = s.outer * s.inner;
  std::vector<uint8_t> has_grad(s.num_experts());
  std::vector<double> before(s.num_experts() * size);
  for (int64_t e = 0; e < s.num_experts(); ++e) {
    has_grad[e] = e % 2;
    const double fill = has_grad[e] || s.rows[e] == 0 ? 3 : std::numeric_limits<double>::quiet_NaN();
    std::fill_n(before.begin() + e * size, size, fill);
  }
  const auto dy = c.In("dy", {offsets.back(), s.outer}, -1, 1);
  const auto x = c.In("x", {offsets.back(), s.inner}, -1, 1);
  const auto dw =
      c.InOutValues("dw", {s.num_experts(), s.outer, s.inner}, before,
                    SumOf(*std::max_element(s.rows.begin(), s.rows.end())), ArrayType::kAccumulator);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    auto flags = has_grad;
    GroupedGemmWeightGrad(stream, offsets, t[dy], t[x], t[dw], flags);
    for (int64_t e = 0; e < s.num_experts(); ++e) EXPECT_EQ(flags[e], has_grad[e] || s.rows[e] > 0) << e;
  });
}

TEST_F(CudaGroupedGemm, WeightGradientOverwritesAddsAndLeavesAlone) {
  ForEachCase(GroupShapes(), [](CudaCase& c, const GroupShape& s) {
    if (c.dtype() == DType::kF32) RunWeightGradient(c, s);
  });
}

// Our own kernel. Rows off its slices and longer than all slices that are copied ahead, matrices off its
// tiles, more experts than one launch takes.
using CudaGroupedWeightGrad = CudaTest;
TEST_F(CudaGroupedWeightGrad, Bf16OverwritesAddsAndLeavesAlone) {
  std::vector<GroupShape> shapes = GroupShapes();
  shapes.push_back({{31, 32, 33, 0, 300}, 136, 264});
  shapes.push_back({std::vector<int64_t>(255, 1), 8, 8});
  ForEachCase(shapes, [](CudaCase& c, const GroupShape& s) {
    if (c.dtype() == DType::kBF16 && !c.unaligned()) RunWeightGradient(c, s);
  });
}

}  // namespace
}  // namespace unipool
