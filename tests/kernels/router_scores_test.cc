#include "kernels/router_scores.h"

#include "tests/kernels/reference_scores.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

template <class T>
constexpr double kBound = 1e-13;
template <>
constexpr double kBound<float> = 1e-6;

// One router with random logits (none within 0.05 of the kink at 0) and a third of its experts hidden, a
// third half visible.
template <class T>
struct Case {
  Case(std::mt19937_64& random, RouterKind kind, int64_t num_tokens, int64_t num_experts,
       bool is_attenuated = false)
      : spec{kind, 3.25},
        logits(RandomArray<T>(random, {num_tokens, num_experts}, 0.05, 3)),
        sigma({1}, static_cast<T>(1.2)),
        visible({num_experts}, 1),
        attenuation({num_experts}),
        scores({num_tokens, num_experts}),
        score_sum({num_experts}, 0.5) {
    for (int64_t i = 0; i < logits.size(); ++i) logits[i] *= UniformInt(random, 2) ? T(1) : T(-1);
    for (int64_t i = 1; i < num_experts; ++i) visible[i] = static_cast<T>(i % 3) / 2;
    for (int64_t i = 0; i < num_experts; ++i)
      attenuation[i] = visible[i] > 0 ? static_cast<T>(4 - i % 5) / 4 : T(0);
    if (is_attenuated) spec.attenuation = attenuation;
  }
  void Forward(Stream& stream) {
    RouterScoresForward(stream, spec, logits, sigma, visible, scores, score_sum);
  }
  RouterScoreSpec spec;
  Array<T> logits, sigma, visible, attenuation, scores;
  Array<double> score_sum;
};

template <class T>
void CheckForward(RouterKind kind, int64_t num_tokens, int64_t num_experts, bool is_attenuated = false) {
  SCOPED_TRACE(testing::Message() << NameOf(kind) << ": " << num_tokens << " x " << num_experts);
  std::mt19937_64 random(num_tokens + num_experts);
  TestStream stream;
  Case<T> c(random, kind, num_tokens, num_experts, is_attenuated);
  c.Forward(stream);
  stream.ExpectOneCall(Op::kRouter,
                       (2 * num_tokens * num_experts + num_experts) * sizeof(T) + 16 * num_experts);
  Array<double> expected({num_tokens, num_experts}), expected_sum({num_experts}, 0.5);
  std::vector<double> z(num_experts), visible(num_experts);
  std::copy_n(c.visible.tensor().template as<T>(), num_experts, visible.begin());
  std::vector<double> attenuation(is_attenuated ? num_experts : 0);
  for (size_t i = 0; i < attenuation.size(); ++i) attenuation[i] = c.attenuation[static_cast<int64_t>(i)];
  for (int64_t t = 0; t < num_tokens; ++t) {
    std::copy_n(c.logits.tensor().template as<T>() + t * num_experts, num_experts, z.begin());
    const std::vector<double> row =
        ReferenceScores(kind, c.sigma[0] * c.spec.constant, visible, z, attenuation);
    for (int64_t i = 0; i < num_experts; ++i) {
      expected[t * num_experts + i] = row[i];
      expected_sum[i] += row[i];
    }
  }
  ExpectNear(c.scores, expected, kBound<T>, 1e-30);
  ExpectNear(c.score_sum, expected_sum, kBound<T>, 0);
}

TEST(RouterScores, ForwardMatchesPlainComputation) {
  for (const RouterKind kind : kAllRouterKinds) {
    for (const int64_t num_tokens : {0, 1, 7}) {
      for (const int64_t num_experts : {1, 17, 31, 64, 1000}) {
        CheckForward<float>(kind, num_tokens, num_experts);
        CheckForward<double>(kind, num_tokens, num_experts);
      }
    }
  }
}

TEST(RouterScores, ForwardOfAttenuatedExperts) {
  for (const RouterKind kind : kAllRouterKinds) {
    for (const int64_t num_experts : {2, 17, 64}) {
      CheckForward<float>(kind, 7, num_experts, true);
      CheckForward<double>(kind, 7, num_experts, true);
    }
  }
}

// An attenuation of 1 everywhere must not change a bit: runs without one leave it out.
TEST(RouterScores, AttenuationOfOneChangesNothing) {
  for (const RouterKind kind : kAllRouterKinds) {
    TestStream stream;
    std::mt19937_64 random(3), again(3);
    Case<float> plain(random, kind, 9, 31), ones(again, kind, 9, 31);
    Array<float> all({31});
    for (int64_t i = 0; i < 31; ++i) all[i] = ones.visible[i] > 0 ? 1.f : 0.f;
    ones.spec.attenuation = all;
    plain.Forward(stream);
    ones.Forward(stream);
    for (int64_t i = 0; i < plain.scores.size(); ++i) ASSERT_EQ(plain.scores[i], ones.scores[i]) << i;
  }
}

// Distinct experts per token, hidden and unscored ones among them, with random gradients.
template <class T>
struct Gradients {
  Gradients(std::mt19937_64& random, int64_t num_tokens, int64_t num_experts, int64_t top_k)
      : experts({num_tokens, top_k}),
        dchosen(RandomArray<T>(random, {num_tokens, top_k})),
        aux(RandomArray<T>(random, {num_experts})),
        dlogits({num_tokens, num_experts}),
        dsigma({1}, 5),
        importance({num_experts}, 0.25) {
    for (int64_t t = 0; t < num_tokens; ++t) {
      const int64_t first = UniformInt(random, num_experts);
      for (int64_t k = 0; k < top_k; ++k)
        experts[t * top_k + k] = static_cast<int32_t>((first + 3 * k) % num_experts);
    }
  }
  RouterScoreGrads Views() const { return {experts, dchosen, aux, dlogits, dsigma, importance}; }
  Array<int32_t> experts;
  Array<T> dchosen, aux, dlogits, dsigma;
  Array<double> importance;
};

// The loss whose gradient RouterScoresBackward promises.
double Loss(const Case<double>& c, const Gradients<double>& g) {
  const int64_t num_experts = c.visible.size(), top_k = g.experts.tensor().dim(1);
  double sum = 0;
  for (int64_t i = 0; i < c.scores.size(); ++i) sum += g.aux[i % num_experts] * c.scores[i];
  for (int64_t i = 0; i < g.experts.size(); ++i) {
    sum += g.dchosen[i] * c.scores[i / top_k * num_experts + g.experts[i]];
  }
  return sum;
}

void CheckBackward(RouterKind kind, int64_t num_experts, int64_t top_k, bool is_attenuated = false) {
  SCOPED_TRACE(testing::Message() << NameOf(kind) << ": " << num_experts << " top " << top_k);
  std::mt19937_64 random(num_experts + top_k);
  TestStream stream;
  Case<double> c(random, kind, 4, num_experts, is_attenuated);
  Gradients<double> g(random, 4, num_experts, top_k);
  c.Forward(stream);
  const Array<double> scores = c.scores;
  RouterScoresBackward(stream, c.spec, c.logits, c.sigma, c.visible, c.scores, g.Views());
  EXPECT_EQ(stream.profile.cost(Op::kRouter).calls, 2);
  const auto loss = [&] {
    c.Forward(stream);
    return Loss(c, g);
  };
  ExpectGradient(g.dlogits, c.logits, loss);
  g.dsigma[0] -= 5;
  ExpectGradient(g.dsigma, c.sigma, loss);
  if (!HasSigma(kind)) {
    EXPECT_EQ(g.dsigma[0], 0);
  }
  Array<double> importance({num_experts}, 0.25);
  for (int64_t i = 0; i < g.experts.size(); ++i) {
    importance[g.experts[i]] += g.dchosen[i] * scores[i / top_k * num_experts + g.experts[i]];
  }
  ExpectNear(g.importance, importance, 1e-14, 1e-14);
}

TEST(RouterScores, BackwardMatchesFiniteDifferences) {
  for (const RouterKind kind : kAllRouterKinds) {
    for (const int64_t num_experts : {17, 31, 40}) {
      for (const int64_t top_k : {1, 2, 4}) CheckBackward(kind, num_experts, top_k);
    }
  }
}

TEST(RouterScores, BackwardOfAttenuatedExperts) {
  for (const RouterKind kind : kAllRouterKinds) {
    for (const int64_t top_k : {1, 3}) CheckBackward(kind, 17, top_k, true);
  }
}

// With NORM an expert that is taken away stays in the norm: its logit has a gradient, its score has none.
TEST(RouterScores, AttenuatedToZeroKeepsItsGradientInTheNorm) {
  TestStream stream;
  Array<double> logits({1, 3}), sigma({1}, 1), visible({3}, 1), attenuation({3}, 1), scores({1, 3}),
      sum({3}, 0);
  logits[0] = 3;
  logits[1] = 4;
  logits[2] = 12;
  attenuation[2] = 0;
  RouterScoreSpec spec{RouterKind::kNorm, 13};
  spec.attenuation = attenuation;
  RouterScoresForward(stream, spec, logits, sigma, visible, scores, sum);
  EXPECT_NEAR(scores[0], 3, 1e-7);
  EXPECT_NEAR(scores[1], 4, 1e-7);
  EXPECT_EQ(scores[2], 0);
  Array<int32_t> experts({1, 1}, 1);
  Array<double> dchosen({1, 1}, 1), aux({3}, 0), dlogits({1, 3}), dsigma({1}, 0), importance({3}, 0);
  aux[2] = 100;  // of a score that is 0
  RouterScoresBackward(stream, spec, logits, sigma, visible, scores,
                       {experts, dchosen, aux, dlogits, dsigma, importance});
  // s1 = 13 z1 / |z|, |z| = 13: ds1/dz2 = -13 * 4 * 12 / 13^3.
  EXPECT_NEAR(dlogits[2], -4. * 12 / 169, 1e-7);
  EXPECT_NEAR(dlogits[1], 1 - 16. / 169, 1e-7);
}

TEST(RouterScores, SingleIsNearDouble) {
  for (const RouterKind kind : kAllRouterKinds) {
    for (const int64_t num_experts : {1, 31, 1000}) {
      std::mt19937_64 random(num_experts);
      TestStream stream;
      Case<float> c(random, kind, 6, num_experts);
      Gradients<float> g(random, 6, num_experts, 1);
      c.Forward(stream);
      RouterScoresBackward(stream, c.spec, c.logits, c.sigma, c.visible, c.scores, g.Views());
      const Array<double> logits = c.logits.As<double>(), sigma = c.sigma.As<double>();
      const Array<double> visible = c.visible.As<double>(), dchosen = g.dchosen.As<double>(),
                          aux = g.aux.As<double>();
      Array<double> scores({6, num_experts}), sum({num_experts}, 0), dlogits({6, num_experts}),
          dsigma({1}, 5);
      RouterScoresForward(stream, c.spec, logits, sigma, visible, scores, sum);
      RouterScoresBackward(stream, c.spec, logits, sigma, visible, scores,
                           {g.experts, dchosen, aux, dlogits, dsigma, {}});
      // With one expert the gradient is a difference of equal numbers, hence the absolute bound.
      ExpectNear(g.dlogits, dlogits, 1e-5, 2e-6 * (1 + LargestMagnitude(dlogits)));
      ExpectNear(g.dsigma, dsigma, 1e-5, 1e-5);
    }
  }
}

// A token whose visible logits are all <= 0 (or all 0) is off: score 0, gradient 0, and no NaN.
TEST(RouterScores, NormWithoutAPositiveLogitIsExactlyZero) {
  TestStream stream;
  std::mt19937_64 random(4);
  const int64_t num_experts = 33;
  Case<float> c(random, RouterKind::kNorm, 3, num_experts);
  Gradients<float> g(random, 3, num_experts, 2);
  for (int64_t i = 0; i < num_experts; ++i) {
    c.logits[i] = 0;
    c.logits[num_experts + i] = -std::abs(c.logits[num_experts + i]);
    c.logits[2 * num_experts + i] = c.visible[i] > 0 ? -1 : 1;  // positive only where hidden
  }
  c.Forward(stream);
  RouterScoresBackward(stream, c.spec, c.logits, c.sigma, c.visible, c.scores, g.Views());
  for (int64_t i = 0; i < c.scores.size(); ++i) {
    ASSERT_EQ(c.scores[i], 0);
    ASSERT_EQ(g.dlogits[i], 0);
  }
  EXPECT_EQ(g.dsigma[0], 5);
  for (int64_t i = 0; i < num_experts; ++i) EXPECT_EQ(c.score_sum[i], 0.5);
}

// The epsilon of the norm counts: tiny logits get smaller scores than the same direction at full length.
TEST(RouterScores, NormKeepsItsEpsilon) {
  TestStream stream;
  const Array<double> sigma({1}, 1), visible({2}, 1);
  Array<double> logits({1, 2}), scores({1, 2}), sum({2}, 0);
  logits[0] = 3e-8;
  logits[1] = 4e-8;
  RouterScoresForward(stream, {RouterKind::kNorm, 6}, logits, sigma, visible, scores, sum);
  EXPECT_NEAR(scores[0], 3.0, 1e-14);
  EXPECT_NEAR(scores[1], 4.0, 1e-14);
}

TEST(RouterScores, SoftmaxOfFarLogitsStaysFinite) {
  TestStream stream;
  const Array<float> sigma({1}, 1);
  Array<float> visible({3}, 1), logits({1, 3}, -5e4), scores({1, 3});
  Array<double> sum({3}, 0);
  visible[2] = 0;
  logits[2] = 5e4;
  RouterScoresForward(stream, {RouterKind::kSoftmax}, logits, sigma, visible, scores, sum);
  EXPECT_EQ(scores[0], 0.5f);
  EXPECT_EQ(scores[1], 0.5f);
  EXPECT_EQ(scores[2], 0.0f);
}

TEST(RouterScoresDeathTest, MismatchPrintsBothShapes) {
  TestStream stream;
  const Array<float> logits({2, 5}, 0), sigma({1}, 1), visible({4}, 1), scores({2, 5}, 0), hidden({5}, 0);
  const Array<double> sum({5}, 0);
  EXPECT_DEATH(RouterScoresForward(stream, {}, logits, sigma, visible, scores, sum),
               "visible.*\\[4\\].*\\[5\\]");
  EXPECT_DEATH(RouterScoresForward(stream, {RouterKind::kSoftmax}, logits, sigma, hidden, scores, sum),
               "none is visible");
}

TEST(RouterConstant, MatchesTheCheckedValues) {
  struct Checked {
    int num_experts, top_k;
    double value;
  };
  constexpr Checked kChecked[] = {{32, 1, 2.826},  {48, 1, 3.188},  {64, 1, 3.496},  {96, 1, 4.012},
                                  {128, 1, 4.446}, {192, 1, 5.155}, {288, 1, 6.015}, {384, 1, 6.721},
                                  {96, 2, 3.022},  {192, 2, 3.848}, {384, 4, 3.761}};
  for (const Checked& c : kChecked) {
    EXPECT_NEAR(RouterConstant(c.num_experts, c.top_k) / c.value, 1, 0.005)
        << c.num_experts << " " << c.top_k;
  }
}

// Two logits are a point on a circle: none positive for 1/4 of the angles, and for another 1/4 the positive
// one is below sqrt(1/2), so that is the median. Top-1 and top-2 agree up to there.
TEST(RouterConstant, FewExpertsUseTheMedian) {
  EXPECT_EQ(RouterConstant(1, 1), 1);
  EXPECT_NEAR(RouterConstant(2, 1), std::sqrt(2.0), 0.02);
  EXPECT_NEAR(RouterConstant(2, 2), std::sqrt(2.0), 0.02);
}

// Fewer samples, the same value: c(M, 1) grows slowly, and the most experts take no longer than 1024.
TEST(RouterConstant, VeryManyExperts) {
  const double at_1024 = RouterConstant(1024, 1), at_1100 = RouterConstant(1100, 1);
  EXPECT_NEAR(at_1100 / at_1024, std::sqrt(1100.0 / 1024) * 0.997, 0.01);
  const double many = RouterConstant(1 << 17, 1);  // sqrt(M) / E[max of M normal numbers], about 4.4
  EXPECT_NEAR(many / std::sqrt(static_cast<double>(1 << 17)), 1 / 4.4, 0.01);
}

TEST(RouterConstant, IsTheSameEveryTime) {
  EXPECT_EQ(RouterConstant(40, 3), RouterConstant(40, 3));
}

}  // namespace
}  // namespace unipool
