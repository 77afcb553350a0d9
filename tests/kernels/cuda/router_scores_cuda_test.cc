#include <numeric>

#include "kernels/router_scores.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaRouterScores = CudaTest;
using Values = std::vector<double>;

// Logits of size 0.5 to 2 and either sign, so that no norm is small: with one expert the gradient is a
// difference of terms that grow as its inverse. A row without a positive logit, and one of zeros.
Values Logits(CudaCase& c, const ExpertShape& s) {
  Values logits(s.tokens * s.experts);
  for (double& z : logits) {
    z = 0.5 + 1.5 * static_cast<double>(c.random()() % 4096) / 4096;
    if (c.random()() % 2) z = -z;
  }
  for (int64_t t = 0; t < s.tokens; ++t) {
    for (double* z = &logits[t * s.experts]; z != &logits[t * s.experts] + s.experts; ++z) {
      if (t % 7 == 2) *z = -std::abs(*z);
      if (t % 7 == 5) *z = 0;
    }
  }
  return logits;
}

// K different experts of each token; those of kAllToOne begin with the last.
Values Choices(CudaCase& c, const ExpertShape& s) {
  Values choices, order(s.experts);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t t = 0; t < s.tokens; ++t) {
    std::shuffle(order.begin(), order.end(), c.random());
    Values row = order;
    if (s.spread == ExpertSpread::kAllToOne) {
      std::iter_swap(row.begin(), std::find(row.begin(), row.end(), s.experts - 1));
    }
    choices.insert(choices.end(), row.begin(), row.begin() + s.top_k);
  }
  return choices;
}

void RunBackward(CudaCase& c, const ExpertShape& s, RouterKind kind, const Values& choices, bool weighs,
                 bool is_attenuated = false) {
  constexpr ArrayType kType = ArrayType::kAccumulator;
  const int64_t n = s.experts;
  Values visible(n, 1);
  for (int64_t i = 1; i < n; ++i) visible[i] = i % 5 == 1 ? 0 : i % 5 == 2 ? 0.5 : 1;
  Values factors(n);
  for (int64_t i = 0; i < n; ++i) factors[i] = visible[i] > 0 ? static_cast<double>(i % 4) / 3 : 0;
  const auto attenuation = c.InValues("attenuation", {n}, factors, kType);
  // Scores are inputs of their own here: what is computed from which must not be confused.
  const auto logits = c.InValues("logits", {s.tokens, n}, Logits(c, s), kType),
             scores = c.In("scores", {s.tokens, n}, 0, 1, kType);
  const auto v = c.InValues("visible", {n}, visible, kType), sigma = c.In("sigma", {1}, 0.5, 2, kType);
  const auto experts = c.InValues("experts", {s.tokens, s.top_k}, choices, ArrayType::kI32);
  const auto dchosen = c.In("dchosen", {s.tokens, s.top_k}, -1, 1, kType),
             aux = c.In("aux", {n}, -1, 1, kType);
  const auto dlogits = c.Out("dlogits", {s.tokens, n}, {.relative = 3e-6, .absolute = 3e-5}, kType);
  const Bound sum_bound = {.relative = 3e-6, .absolute = 3e-5};
  const auto dsigma = c.InOut("dsigma", {1}, -1, 1, sum_bound, kType);
  const auto importance = c.InOut("importance", {n}, -1, 1, sum_bound, ArrayType::kF64);
  const bool has_sigma = HasSigma(kind);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    RouterScoresBackward(
        stream, {.kind = kind, .constant = 3.5, .attenuation = is_attenuated ? t[attenuation] : Tensor{}},
        t[logits], has_sigma ? t[sigma] : Tensor{}, t[v], t[scores],
        {.experts = t[experts],
         .dchosen = t[dchosen],
         .aux = t[aux],
         .dlogits = t[dlogits],
         .dsigma = has_sigma ? t[dsigma] : Tensor{},
         .importance = weighs ? t[importance] : Tensor{}});
  });
}

TEST_F(CudaRouterScores, BackwardOfEveryKind) {
  for (const RouterKind kind : kAllRouterKinds) {
    SCOPED_TRACE(static_cast<int>(kind));
    std::vector<ExpertShape> shapes = ExpertShapes();
    shapes.push_back({5, 768, 40, ExpertSpread::kEven});  // the most experts, more choices than lanes
    ForEachCase(shapes,
                [&](CudaCase& c, const ExpertShape& s) { RunBackward(c, s, kind, Choices(c, s), true); });
  }
}

TEST_F(CudaRouterScores, BackwardOfAttenuatedExperts) {
  for (const RouterKind kind : kAllRouterKinds) {
    SCOPED_TRACE(static_cast<int>(kind));
    ForEachCase(ExpertShapes(), [&](CudaCase& c, const ExpertShape& s) {
      RunBackward(c, s, kind, Choices(c, s), true, true);
    });
  }
}

TEST_F(CudaRouterScores, BackwardWithoutImportance) {
  for (const RouterKind kind : kAllRouterKinds) {
    ForEachCase({ExpertShape{70, 12, 3, ExpertSpread::kEven}},
                [&](CudaCase& c, const ExpertShape& s) { RunBackward(c, s, kind, Choices(c, s), false); });
  }
}

// The definition adds choices that name one expert twice.
TEST_F(CudaRouterScores, BackwardOfRepeatedChoices) {
  for (const RouterKind kind : kAllRouterKinds) {
    ForEachCase({ExpertShape{40, 9, 4, ExpertSpread::kEven}}, [&](CudaCase& c, const ExpertShape& s) {
      Values choices(s.tokens * s.top_k);
      for (double& choice : choices) choice = static_cast<double>(c.random()() % 3);
      RunBackward(c, s, kind, choices, true);
    });
  }
}

}  // namespace
}  // namespace unipool
