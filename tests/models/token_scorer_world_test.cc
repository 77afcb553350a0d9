// Scores of chosen positions against the logits of the model that reads one token after another, on every
// layout; sequences shorter than the model's.
#include <algorithm>
#include <cmath>

#include "models/token_scorer.h"
#include "tests/models/layouts.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

// By position: log-probabilities of the vocabulary for the token behind it.
std::vector<std::vector<double>> LogProbsOf(TrainingEngine& engine, const std::vector<int32_t>& tokens) {
  std::vector<std::vector<double>> all;
  const int64_t vocab = engine.parts().spec.vocab;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const Tensor logits = engine.NextLogits(tokens[t], static_cast<int64_t>(t));
    std::vector<double> numbers(logits.as<double>(), logits.as<double>() + vocab);
    double sum = 0;
    for (const double x : numbers) sum += std::exp(x);
    for (double& x : numbers) x -= std::log(sum);
    all.push_back(std::move(numbers));
  }
  return all;
}

struct Scored {
  std::vector<double> log_probs;  // [sequences] summed over the wanted positions, over all ranks
  std::vector<double> top;        // [sequences] sum of ids of the two likeliest
};

// The last two positions of each sequence of `length`, in microbatches of at most 20 tokens.
Scored Score(const Config& config, World& world, int64_t length, int64_t num_sequences) {
  TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate, .dtype = DType::kF64});
  const int64_t per_microbatch = 20 / length, per_round = per_microbatch * engine.data_ranks();
  const int64_t rounds = (num_sequences + per_round - 1) / per_round;
  std::vector<int32_t> samples;
  std::vector<TokenScorer::Wanted> wanted(rounds);
  std::vector<int64_t> own;
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < per_microbatch; ++i) {
      const int64_t sequence = engine.SequenceIndex(m, i, per_microbatch);
      for (int64_t p = 0; p <= length; ++p) samples.push_back(SampleToken(5, 0, sequence, p, 11));
      if (sequence >= num_sequences) continue;
      for (const int64_t p : {length - 2, length - 1}) {
        wanted[m].rows.push_back(static_cast<int32_t>(i * length + p));
        wanted[m].targets.push_back(SampleToken(5, 0, sequence, p + 1, 11));
        own.push_back(sequence);
      }
    }
  }
  TokenScorer scorer(2, nullptr, engine.parts().place.memory());
  scorer.Begin(wanted);
  engine.parts().model.SetScorer(&scorer);
  engine.EvaluateLossSum(Tensor(samples.data(), DType::kI32, {rounds, per_microbatch, length + 1}),
                         num_sequences);
  engine.parts().model.SetScorer(nullptr);
  Scored scored{.log_probs = std::vector<double>(num_sequences), .top = std::vector<double>(num_sequences)};
  size_t at = 0;
  for (const auto& microbatch : scorer.scores()) {
    for (const PositionScores& position : microbatch) {
      scored.log_probs[own[at]] += position.target.log_prob;
      for (const TokenScore& top : position.top) scored.top[own[at]] += top.token;
      ++at;
    }
  }
  for (std::vector<double>* numbers : {&scored.log_probs, &scored.top}) {
    world.communicator->AllReduceSum(
        Tensor(numbers->data(), DType::kF64, {static_cast<int64_t>(numbers->size())}), {.operation = "test"});
  }
  return scored;
}

Config ModelOf() {
  Config config = TrainingConfigOf({.experts = 7, .top_k = 2, .layers = 4});
  config.mutable_train()->set_micro_batch(2);  // of 10 tokens
  return config;
}

TEST(TokenScorer, ScoresAreThoseOfTheLogitsWithoutPaddedRows) {
  OneRank one;
  const Config config = ModelOf();
  TrainingEngine engine(config, one.world, {.mode = EngineMode::kEvaluate, .dtype = DType::kF64});
  ASSERT_GT(engine.parts().spec.padded_vocab, engine.parts().spec.vocab);
  for (const int64_t length : {10, 5, 4, 7, 3}) {
    const Scored scored = Score(config, one.world, length, 7);
    for (int64_t sequence = 0; sequence < 7; ++sequence) {
      std::vector<int32_t> tokens;
      for (int64_t p = 0; p < length; ++p) tokens.push_back(SampleToken(5, 0, sequence, p, 11));
      const std::vector<std::vector<double>> expected = LogProbsOf(engine, tokens);
      double sum = 0, top = 0;
      for (const int64_t p : {length - 2, length - 1}) {
        sum += expected[p][SampleToken(5, 0, sequence, p + 1, 11)];
        std::vector<int> ids(11);
        for (int id = 0; id < 11; ++id) ids[id] = id;
        std::sort(ids.begin(), ids.end(), [&](int a, int b) { return expected[p][a] > expected[p][b]; });
        top += ids[0] + ids[1];
      }
      EXPECT_NEAR(scored.log_probs[sequence], sum, 1e-9) << length << ", " << sequence;
      EXPECT_EQ(scored.top[sequence], top) << length << ", " << sequence;
    }
  }
}

TEST(TokenScorer, IsTheSameOnEveryLayout) {
  RunOnRanks([](World& world) {
    const Config config = ModelOf();
    OneRank one;
    for (const int64_t length : {10, 7, 3}) {
      const Scored expected = Score(config, one.world, length, 7);
      for (const Layout& layout : LayoutsOf(world.size())) {
        SCOPED_TRACE(NameOf(layout));
        const Scored scored = Score(Laid(config, layout), world, length, 7);
        ExpectClose(scored.log_probs, expected.log_probs, 1e-9, "log-probabilities");
        EXPECT_EQ(scored.top, expected.top);
      }
    }
  });
}

// The loss of an evaluation does not depend on how long its sequences are, as far as contexts are alike.
TEST(TokenScorer, ALossComesBackWithoutIt) {
  OneRank one;
  const Config config = ModelOf();
  TrainingEngine engine(config, one.world, {.mode = EngineMode::kEvaluate, .dtype = DType::kF64});
  std::vector<int32_t> tokens;
  const double loss = engine.EvaluateLossSum(SamplesOf(engine, config, 5, 0, tokens), 12);
  EXPECT_GT(loss, 0);
  Score(config, one.world, 5, 4);
  EXPECT_EQ(engine.EvaluateLossSum(SamplesOf(engine, config, 5, 0, tokens), 12), loss);
}

// By hand: equal logits, and a target that is the likeliest.
TEST(TokenScorer, OfEqualTokensTheLowerIsFirst) {
  MemoryMeter memory;
  TokenScorer scorer(3, nullptr, memory);
  scorer.Begin({{.rows = {4}, .targets = {2}}, {.rows = {1, 3}, .targets = {0, 3}}});
  EXPECT_EQ(scorer.num_wanted(1), 2);
  EXPECT_EQ(scorer.Rows(1, 1, 1).as<int32_t>()[0], 3);
  EXPECT_EQ(scorer.Targets(0, 0, 1).as<int32_t>()[0], 2);
  std::vector<double> logits{1, 2, 2, -1, 0, 0, 0, 5}, losses{0.5, 0.25};
  scorer.Take(1, 0, Tensor(logits.data(), DType::kF64, {2, 4}), Tensor(losses.data(), DType::kF64, {2}));
  const PositionScores& first = scorer.scores()[1][0];
  EXPECT_EQ(first.target.log_prob, -0.5);
  ASSERT_EQ(first.top.size(), 3u);
  EXPECT_EQ(first.top[0].token, 1);
  EXPECT_EQ(first.top[1].token, 2);
  EXPECT_EQ(first.top[2].token, 0);
  EXPECT_EQ(first.top[0].log_prob, 0.5);  // one more than the target's
  EXPECT_EQ(first.top[2].log_prob, first.target.log_prob);
  const PositionScores& second = scorer.scores()[1][1];
  EXPECT_EQ(second.top[0].token, 3);
  EXPECT_EQ(second.top[0].log_prob, second.target.log_prob);
  EXPECT_EQ(second.top[1].token, 0);
}

}  // namespace
}  // namespace unipool
