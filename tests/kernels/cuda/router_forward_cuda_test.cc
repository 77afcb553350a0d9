#include "kernels/router_forward.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaRouterForward = CudaTest;

struct RouterCase {
  RouterKind kind;
  int64_t width;
  bool biased;
  int64_t biases_that_are_numbers = -1;  // the first of them; -1: all are
  BiasReach reach = BiasReach::kEveryScore;
  bool is_attenuated = false;
};

// Of `parts` F32 sums, each of `width` products of numbers from [-1, 1], which are added at the end. A
// product has variance 1/9, so a partial sum of k of them has k/9. Rounding to F32 takes at most 2^-24 of a
// number, in either direction alike: a variance of a third of that, squared. A product and the sum that it
// is added to are rounded: n (n + 3) / 18 of these variances for a sum of n. Six standard deviations.
Bound LogitBound(int64_t width, int parts) {
  const auto n = static_cast<double>(width);
  return {.relative = 2e-7, .absolute = 6 * 0x1p-24 / std::sqrt(3) * std::sqrt(parts * n * (n + 3) / 18)};
}

// Fills in every tensor but x and weight, and runs the case.
void RunRouter(CudaCase& c, const ExpertShape& s, const RouterCase& r, CudaCase::Handle x,
               CudaCase::Handle weight, const CudaCase::Handle* weight_low = nullptr) {
  constexpr ArrayType kSum = ArrayType::kAccumulator;
  const Bound bound = {.relative = 3e-6, .absolute = 1e-5};
  const int64_t n = s.experts;
  std::vector<double> visible(n, 1);
  for (int64_t i = s.top_k; i < n; ++i) visible[i] = i % 5 == 1 ? 0 : i % 5 == 2 ? 0.5 : 1;
  const auto v = c.InValues("visible", {n}, visible, kSum), sigma = c.In("sigma", {1}, 0.5, 2, kSum);
  std::vector<double> biases(n);
  for (double& b : biases) b = std::uniform_real_distribution<double>(-0.5, 0.5)(c.random());
  for (int64_t i = r.biases_that_are_numbers; i >= 0 && i < n; ++i)
    biases[i] = std::numeric_limits<double>::quiet_NaN();
  const auto bias = c.InValues("bias", {n}, biases, kSum);
  std::vector<double> factors(n);
  for (int64_t i = 0; i < n; ++i)
    factors[i] = visible[i] > 0 ? (i < s.top_k ? 0.5 : static_cast<double>(i % 4) / 3) : 0;
  const auto attenuation = c.InValues("attenuation", {n}, factors, kSum);
  const auto logits = c.Out("logits", {s.tokens, n}, LogitBound(r.width, weight_low ? 2 : 1), kSum),
             scores = c.Out("scores", {s.tokens, n}, bound, kSum);
  const auto score_sum =
      c.InOut("score_sum", {n}, 0, 1, {.relative = 1e-5, .absolute = 1e-4}, ArrayType::kF64);
  const auto experts = c.Out("experts", {s.tokens, s.top_k}, {}, ArrayType::kI32);
  const auto weights = c.Out("weights", {s.tokens, s.top_k}, bound, kSum);
  std::vector<double> earlier(n);
  for (int64_t i = 0; i < n; ++i) earlier[i] = static_cast<double>(1000 + i);
  const auto counts = c.InOutValues("counts", {n}, earlier, {}, ArrayType::kI64);
  const auto num_off = c.InOutValues("num_off", {1}, {7}, {}, ArrayType::kI64);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    RouterForward(
        stream, {.kind = r.kind, .constant = 3.5, .attenuation = r.is_attenuated ? t[attenuation] : Tensor{}},
        {.x = t[x],
         .weight = t[weight],
         .weight_low = weight_low ? t[*weight_low] : Tensor{},
         .sigma = HasSigma(r.kind) ? t[sigma] : Tensor{},
         .bias = r.biased ? t[bias] : Tensor{},
         .bias_reach = r.reach,
         .visible = t[v]},
        {.logits = t[logits],
         .scores = t[scores],
         .score_sum = t[score_sum],
         .experts = t[experts],
         .weights = t[weights],
         .counts = t[counts],
         .num_off = t[num_off]});
  });
}

TEST_F(CudaRouterForward, EveryKind) {
  for (const RouterKind kind : kAllRouterKinds) {
    SCOPED_TRACE(static_cast<int>(kind));
    ForEachCase(ExpertShapes(), [&](CudaCase& c, const ExpertShape& s) {
      const RouterCase r = {kind, 100, kind != RouterKind::kSoftmax};
      const auto x = c.In("x", {s.tokens, r.width}, -1, 1),
                 weight = c.In("weight", {s.experts, r.width}, -1, 1);
      RunRouter(c, s, r, x, weight);
    });
  }
}

// Integers, so that many scores are 0 and others are equal; biases above all differences of scores.
TEST_F(CudaRouterForward, BiasOfPositiveScoresAlone) {
  ForEachCase({ExpertShape{40, 70, 4, ExpertSpread::kEven}, ExpertShape{300, 8, 3, ExpertSpread::kEven}},
              [](CudaCase& c, const ExpertShape& s) {
                constexpr int64_t kWidth = 16;
                std::vector<double> x(s.tokens * kWidth), weight(s.experts * kWidth);
                for (double& value : x) value = static_cast<double>(c.random()() % 3) - 1;
                for (double& value : weight) value = static_cast<double>(c.random()() % 3) - 1;
                for (int64_t j = 0; j < kWidth; ++j) x[3 * kWidth + j] = 0;
                const auto in = c.InValues("x", {s.tokens, kWidth}, x, ArrayType::kData);
                const auto w = c.InValues("weight", {s.experts, kWidth}, weight, ArrayType::kData);
                RunRouter(c, s, {RouterKind::kNorm, kWidth, true, -1, BiasReach::kPositiveScores}, in, w);
              });
}

TEST_F(CudaRouterForward, AttenuatedExperts) {
  for (const RouterKind kind : kAllRouterKinds) {
    SCOPED_TRACE(static_cast<int>(kind));
    ForEachCase(ExpertShapes(), [&](CudaCase& c, const ExpertShape& s) {
      RouterCase r = {kind, 100, kind != RouterKind::kSoftmax};
      r.is_attenuated = true;
      const auto x = c.In("x", {s.tokens, r.width}, -1, 1),
                 weight = c.In("weight", {s.experts, r.width}, -1, 1);
      RunRouter(c, s, r, x, weight);
    });
  }
}

// A bias that is none makes a choice that is none, while all outputs stay numbers that can be compared. None,
// one and two experts can be ordered; the others follow from the lowest.
TEST_F(CudaRouterForward, WithoutEnoughNumbersTheLowestVisibleFollow) {
  for (const int64_t numbers : {0, 1, 2}) {
    SCOPED_TRACE(numbers);
    ForEachCase(
        {ExpertShape{37, 140, 3, ExpertSpread::kEven}, ExpertShape{5, 4, 4, ExpertSpread::kEven}},
        [&](CudaCase& c, const ExpertShape& s) {
          const auto x = c.In("x", {s.tokens, 8}, -1, 1), weight = c.In("weight", {s.experts, 8}, -1, 1);
          RunRouter(c, s, {RouterKind::kSigmoid, 8, true, numbers}, x, weight);
        });
  }
}

// A low part as large as the weight itself, so that one slice of it left out would show.
TEST_F(CudaRouterForward, LowPartOfTheWeight) {
  for (const int64_t width : {1, 64, 72, 129, 256}) {
    SCOPED_TRACE(width);
    ForEachCase({ExpertShape{37, 140, 3, ExpertSpread::kEven}}, [&](CudaCase& c, const ExpertShape& s) {
      const auto x = c.In("x", {s.tokens, width}, -1, 1), weight = c.In("weight", {s.experts, width}, -1, 1),
                 low = c.In("weight_low", {s.experts, width}, -1, 1);
      RunRouter(c, s, {RouterKind::kNorm, width, true}, x, weight, &low);
    });
  }
}

// Blocks of 128 and of 64 tokens, which only many tokens get. The last block has less than its tokens, and
// experts fill no tile. Eighths, whose products and sums are exact: no choice among so many hangs on
// rounding.
TEST_F(CudaRouterForward, LargeBlocks) {
  const std::vector<ExpertShape> shapes = {{16'300, 20, 1, ExpertSpread::kEven},
                                           {8'140, 140, 1, ExpertSpread::kEven}};
  ForEachCase(shapes, [](CudaCase& c, const ExpertShape& s) {
    constexpr int64_t kWidth = 40;
    const auto eighths = [&](const char* name, int64_t rows) {
      std::vector<double> values(rows * kWidth);
      for (double& value : values) value = (static_cast<double>(c.random()() % 17) - 8) / 8;
      return c.InValues(name, {rows, kWidth}, values, ArrayType::kData);
    };
    const auto x = eighths("x", s.tokens), weight = eighths("weight", s.experts),
               low = eighths("weight_low", s.experts);
    RunRouter(c, s, {RouterKind::kNorm, kWidth, false}, x, weight, &low);
  });
}

TEST_F(CudaRouterForward, WidthsOffTheSlice) {
  for (const int64_t width : {1, 8, 72, 129, 256}) {
    SCOPED_TRACE(width);
    ForEachCase({ExpertShape{17, 40, 3, ExpertSpread::kEven}}, [&](CudaCase& c, const ExpertShape& s) {
      const auto x = c.In("x", {s.tokens, width}, -1, 1), weight = c.In("weight", {s.experts, width}, -1, 1);
      RunRouter(c, s, {RouterKind::kNorm, width, true}, x, weight);
    });
  }
}

// Small integers: products are exact and many scores are equal. Rows of zeros are off; so are those without a
// positive logit. 1100 tokens leave 35 partial sums of scores, more than one round of adding them up takes.
TEST_F(CudaRouterForward, TiesGoToTheLowerIndexAndTokensCanBeOff) {
  const std::vector<ExpertShape> shapes = {{40, 70, 4, ExpertSpread::kEven},
                                           {1100, 8, 3, ExpertSpread::kEven}};
  ForEachCase(shapes, [](CudaCase& c, const ExpertShape& s) {
    constexpr int64_t kWidth = 16;
    std::vector<double> x(s.tokens * kWidth), weight(s.experts * kWidth);
    for (double& value : x) value = static_cast<double>(c.random()() % 2);
    for (double& value : weight) value = static_cast<double>(c.random()() % 2);
    for (int64_t j = 0; j < kWidth; ++j) x[3 * kWidth + j] = 0, x[4 * kWidth + j] = -1;
    const auto in = c.InValues("x", {s.tokens, kWidth}, x, ArrayType::kData);
    const auto w = c.InValues("weight", {s.experts, kWidth}, weight, ArrayType::kData);
    RunRouter(c, s, {RouterKind::kNorm, kWidth, false}, in, w);
  });
}

}  // namespace
}  // namespace unipool
