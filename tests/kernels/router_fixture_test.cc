// Router scores, choices, balancing losses and c(M, k) against tests/fixtures/router.json, which
// tests/fixtures/make_router_fixtures.py computes from the formulas without any of this code.
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/router_scores.h"
#include "kernels/top_k.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

nlohmann::json Fixture() {
  std::ifstream file(UNIPOOL_SOURCE_DIR "/tests/fixtures/router.json");
  EXPECT_TRUE(file) << "tests/fixtures/router.json is missing";
  return nlohmann::json::parse(file);
}

Array<double> ReadArray(const nlohmann::json& values, std::initializer_list<int64_t> shape) {
  Array<double> array(shape);
  EXPECT_EQ(array.size(), static_cast<int64_t>(values.size()));
  for (int64_t i = 0; i < array.size(); ++i) array[i] = values[i].get<double>();
  return array;
}

RouterKind KindOf(const std::string& name) {
  for (const RouterKind kind : kAllRouterKinds) {
    if (strcasecmp(name.c_str(), NameOf(kind)) == 0) return kind;
  }
  LOG(FATAL) << "the fixtures name a router " << name;
}

// One case, all layers stacked: row l * T + t is token t of layer l.
struct RouterCase {
  explicit RouterCase(const nlohmann::json& json)
      : num_layers(json["layers"]),
        num_tokens(json["tokens"]),
        num_experts(json["experts"]),
        top_k(json["top_k"]),
        alpha(json["alpha"]),
        spec{KindOf(json["kind"]), json["constant"]},
        sigma(ReadArray(json["sigma"], {num_layers, 1})),
        bias(ReadArray(json["bias"], {num_experts})),
        visible(ReadArray(json["visible"], {num_layers, num_experts})),
        logits(ReadArray(json["logits"], {num_layers * num_tokens, num_experts})),
        scores({num_layers * num_tokens, num_experts}),
        score_sum({num_layers, num_experts}, 0),
        experts({num_layers * num_tokens, top_k}),
        weights({num_layers * num_tokens, top_k}),
        counts({num_layers, num_experts}, 0) {}

  Tensor Sigma(int64_t l) const { return sigma.tensor().Rows(l, 1).Reshape({1}); }
  Tensor Visible(int64_t l) const { return visible.tensor().Rows(l, 1).Reshape({num_experts}); }
  Tensor TokensOf(const Tensor& stacked, int64_t l) const { return stacked.Rows(l * num_tokens, num_tokens); }

  void Forward(Stream& stream) {
    for (int64_t l = 0; l < num_layers; ++l) {
      const Tensor layer_scores = TokensOf(scores, l);
      RouterScoresForward(stream, spec, TokensOf(logits, l), Sigma(l), Visible(l), layer_scores,
                          score_sum.tensor().Rows(l, 1).Reshape({num_experts}));
      TopK(stream, layer_scores, {bias}, Visible(l), TokensOf(experts, l), TokensOf(weights, l),
           counts.tensor().Rows(l, 1).Reshape({num_experts}));
    }
  }

  // Shares of the choices of layers [begin, end), averaged: fbar of a balance group.
  std::vector<double> MeanShares(int64_t begin, int64_t end) const {
    std::vector<double> shares(num_experts, 0);
    for (int64_t l = begin; l < end; ++l) {
      for (int64_t i = 0; i < num_experts; ++i) {
        shares[i] += static_cast<double>(counts[l * num_experts + i]) / (num_tokens * top_k) / (end - begin);
      }
    }
    return shares;
  }

  // alpha * M * sum_i fbar_i * Pbar_i over layers [begin, end), from the kernels' counts and score sums.
  double BalanceLoss(int64_t begin, int64_t end) const {
    const std::vector<double> shares = MeanShares(begin, end);
    double sum = 0;
    for (int64_t l = begin; l < end; ++l) {
      for (int64_t i = 0; i < num_experts; ++i) {
        sum += shares[i] * score_sum[l * num_experts + i] / num_tokens / (end - begin);
      }
    }
    return alpha * num_experts * sum;
  }

  // Its gradient with respect to the logits of these layers, [end - begin, T, M].
  Array<double> BalanceGradient(Stream& stream, int64_t begin, int64_t end) const {
    const std::vector<double> shares = MeanShares(begin, end);
    Array<double> aux({num_experts}), dlogits({(end - begin) * num_tokens, num_experts}), dsigma({1}, 0);
    for (int64_t i = 0; i < num_experts; ++i) {
      aux[i] = alpha * num_experts * shares[i] / ((end - begin) * num_tokens);
    }
    const Array<double> no_task_loss({num_tokens, top_k}, 0);
    for (int64_t l = begin; l < end; ++l) {
      RouterScoresBackward(
          stream, spec, TokensOf(logits, l), Sigma(l), Visible(l), TokensOf(scores, l),
          {TokensOf(experts, l), no_task_loss, aux, TokensOf(dlogits, l - begin), dsigma, {}});
    }
    return dlogits;
  }

  int64_t num_layers, num_tokens, num_experts, top_k;
  double alpha;
  RouterScoreSpec spec;
  Array<double> sigma, bias, visible, logits, scores, score_sum;
  Array<int32_t> experts;
  Array<double> weights;
  Array<int64_t> counts;
};

TEST(RouterFixture, ScoresChoicesAndBalanceLossesMatch) {
  const nlohmann::json fixture = Fixture();
  ASSERT_EQ(fixture["cases"].size(), 9u);
  for (const nlohmann::json& json : fixture["cases"]) {
    SCOPED_TRACE(json["name"].get<std::string>());
    TestStream stream;
    RouterCase c(json);
    c.Forward(stream);
    ExpectNear(c.scores, ReadArray(json["scores"], {c.scores.size()}), 1e-13, 1e-15);
    for (int64_t i = 0; i < c.experts.size(); ++i) ASSERT_EQ(c.experts[i], json["chosen"][i].get<int>()) << i;
    EXPECT_NEAR(c.BalanceLoss(0, c.num_layers), json["pool_loss"], 1e-14);
    EXPECT_NEAR(c.BalanceLoss(0, 1), json["switch_loss"], 1e-14);
    ExpectNear(c.BalanceGradient(stream, 0, c.num_layers),
               ReadArray(json["pool_gradient"], {c.logits.size()}), 1e-10, 1e-15);
    ExpectNear(c.BalanceGradient(stream, 0, 1),
               ReadArray(json["switch_gradient"], {c.num_tokens * c.num_experts}), 1e-10, 1e-15);
  }
}

TEST(RouterFixture, ConstantsMatch) {
  const nlohmann::json fixture = Fixture();
  ASSERT_EQ(fixture["constants"].size(), 4u);
  for (const nlohmann::json& json : fixture["constants"]) {
    EXPECT_NEAR(RouterConstant(json["experts"], json["top_k"]) / json["value"].get<double>(), 1, 0.005)
        << json;
  }
}

}  // namespace
}  // namespace unipool
