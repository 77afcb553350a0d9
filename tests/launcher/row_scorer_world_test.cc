// Rows of many lengths score alike however they travel: alone, together, on any layout.
#include "launcher/tasks/row_scorer.h"
#include "tests/models/layouts.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

std::vector<TokenRow> RowsOf(int64_t count) {
  std::vector<TokenRow> rows;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t size = 2 + i * 7 % 10;  // 2 to 11 tokens, of which ten are inputs
    TokenRow row{.first_target = 1 + i % (size - 1)};
    for (int64_t p = 0; p < size; ++p) row.tokens.push_back(SampleToken(3, 1, i, p, 11));
    rows.push_back(row);
  }
  return rows;
}

struct Numbers {
  std::vector<double> log_probs;
  std::vector<int32_t> tokens;  // targets and likeliest
};

Numbers Score(const Config& config, World& world, std::span<const TokenRow> rows) {
  TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate, .dtype = DType::kF64});
  RowScorer scorer(engine, *world.communicator, 2);
  Numbers numbers;
  size_t row = 0;
  for (const std::vector<PositionScores>& positions : scorer.Score(rows)) {
    EXPECT_EQ(static_cast<int64_t>(positions.size()), rows[row].num_targets());
    for (size_t t = 0; t < positions.size(); ++t) {
      EXPECT_EQ(positions[t].target.token, rows[row].tokens[rows[row].first_target + t]);
      EXPECT_LT(positions[t].target.log_prob, 0);
      EXPECT_GE(positions[t].top[0].log_prob, positions[t].target.log_prob);
      numbers.log_probs.push_back(positions[t].target.log_prob);
      for (const TokenScore& top : positions[t].top) {
        numbers.log_probs.push_back(top.log_prob);
        numbers.tokens.push_back(top.token);
      }
    }
    ++row;
  }
  return numbers;
}

Config ModelOf(int micro_batch) {
  Config config = TrainingConfigOf({.experts = 7, .top_k = 2, .layers = 4});
  config.mutable_train()->set_micro_batch(micro_batch);
  return config;
}

TEST(RowScorer, RowsDoNotSeeEachOther) {
  OneRank one;
  const std::vector<TokenRow> rows = RowsOf(23);
  const Numbers together = Score(ModelOf(4), one.world, rows);
  Numbers alone;
  for (const TokenRow& row : rows) {
    const Numbers numbers = Score(ModelOf(1), one.world, {&row, 1});
    alone.log_probs.insert(alone.log_probs.end(), numbers.log_probs.begin(), numbers.log_probs.end());
    alone.tokens.insert(alone.tokens.end(), numbers.tokens.begin(), numbers.tokens.end());
  }
  ExpectClose(together.log_probs, alone.log_probs, 1e-9, "log-probabilities");
  EXPECT_EQ(together.tokens, alone.tokens);
}

TEST(RowScorer, IsTheSameOnEveryLayout) {
  RunOnRanks([](World& world) {
    const Config config = ModelOf(2);
    OneRank one;
    const std::vector<TokenRow> rows = RowsOf(world.size() == 1 ? 150 : 17);  // more than a pass
    const Numbers expected = Score(ModelOf(4), one.world, rows);
    for (const Layout& layout : LayoutsOf(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      const Numbers numbers = Score(Laid(config, layout), world, rows);
      ExpectClose(numbers.log_probs, expected.log_probs, 1e-9, "log-probabilities");
      EXPECT_EQ(numbers.tokens, expected.tokens);
    }
  });
}

// "length x per_microbatch x rounds", pass by pass.
std::string Passes(std::vector<int64_t> lengths, int64_t tokens, int64_t data_ranks, int64_t stages) {
  std::string text;
  while (!lengths.empty()) {
    const RowScorer::Pass pass = RowScorer::NextPass(lengths, tokens, data_ranks, stages);
    EXPECT_LE(pass.length * pass.per_microbatch, std::max(tokens, pass.length));
    text += Format("%dx%dx%d ", pass.length, pass.per_microbatch, pass.rounds);
    const auto most = static_cast<size_t>(pass.per_microbatch * pass.rounds * data_ranks);
    lengths.erase(lengths.begin(), lengths.begin() + static_cast<int64_t>(std::min(most, lengths.size())));
  }
  return text;
}

TEST(RowScorer, PassesOfRowsOfLikeLength) {
  EXPECT_EQ(Passes({10, 10, 10, 10, 10}, 20, 1, 1), "10x2x2 10x1x1 ");
  EXPECT_EQ(Passes({10, 9, 5, 5, 5, 5, 4, 4}, 20, 1, 1), "10x2x1 5x4x1 4x2x1 ");
  EXPECT_EQ(Passes({10, 9, 5, 5}, 20, 1, 2), "10x2x2 ");  // both stages have work
  EXPECT_EQ(Passes({10, 10, 10}, 20, 4, 1), "10x1x1 ");   // one rank has padding alone
  EXPECT_EQ(Passes(std::vector<int64_t>(40, 7), 15, 1, 1), "7x2x16 7x2x4 ");
  EXPECT_EQ(Passes({30, 3}, 20, 1, 1), "30x1x1 3x1x1 ");
}

}  // namespace
}  // namespace unipool
