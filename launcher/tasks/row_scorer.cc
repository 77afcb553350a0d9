#include "launcher/tasks/row_scorer.h"

#include <algorithm>

namespace unipool {
namespace {

constexpr int64_t kMostRounds = 16;

int64_t TokensOf(const TrainingEngine& engine) {
  const EngineParts& parts = engine.parts();
  return parts.config.train().micro_batch() * parts.spec.seq_length;
}

int64_t InputsOf(const TokenRow& row) {
  return static_cast<int64_t>(row.tokens.size()) - 1;
}

}  // namespace

RowScorer::RowScorer(TrainingEngine& engine, Communicator& world, int64_t num_top)
    : engine_(engine),
      world_(world),
      num_top_(num_top),
      scorer_(num_top, engine.parts().place.device(), engine.parts().place.memory()) {}

RowScorer::Pass RowScorer::NextPass(std::span<const int64_t> lengths, int64_t tokens, int64_t data_ranks,
                                    int64_t stages) {
  const auto left = static_cast<int64_t>(lengths.size());
  Pass pass{.length = lengths[0], .per_microbatch = std::max<int64_t>(tokens / lengths[0], 1)};
  const int64_t per_round = pass.per_microbatch * data_ranks;
  pass.rounds = std::min(left / per_round, kMostRounds);
  if (pass.rounds == 0) {  // the last rows
    pass.rounds = 1;
    pass.per_microbatch = (left + data_ranks - 1) / data_ranks;
  }
  while (pass.rounds > stages && 8 * lengths[pass.rounds * per_round - 1] < 7 * pass.length) --pass.rounds;
  return pass;
}

std::vector<std::vector<PositionScores>> RowScorer::Score(std::span<const TokenRow> rows) {
  std::vector<std::vector<PositionScores>> scores(rows.size());
  std::vector<int64_t> order, lengths;
  for (size_t i = 0; i < rows.size(); ++i) {
    const TokenRow& row = rows[i];
    CHECK(row.first_target >= 1 && row.num_targets() >= 1) << row.first_target << " of " << row.tokens.size();
    CHECK_LE(InputsOf(row), engine_.parts().spec.seq_length);
    scores[i].resize(row.num_targets());
    order.push_back(static_cast<int64_t>(i));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return InputsOf(rows[a]) > InputsOf(rows[b]); });
  for (const int64_t row : order) lengths.push_back(InputsOf(rows[row]));
  const int64_t stages = engine_.parts().mesh.shape().stages;
  for (size_t done = 0; done < order.size();) {
    const Pass pass =
        NextPass(std::span(lengths).subspan(done), TokensOf(engine_), engine_.data_ranks(), stages);
    const auto most = static_cast<size_t>(pass.rounds * pass.per_microbatch * engine_.data_ranks());
    const size_t count = std::min(most, order.size() - done);
    Run(rows, std::span(order).subspan(done, count), pass, scores);
    done += count;
  }
  return scores;
}

// What ranks exchange of a position: log_prob of the target, then token and log_prob of the likeliest.
void RowScorer::Run(std::span<const TokenRow> rows, std::span<const int64_t> picked, const Pass& pass,
                    std::vector<std::vector<PositionScores>>& scores) {
  const auto [length, per_microbatch, rounds] = pass;
  const int64_t num_picked = static_cast<int64_t>(picked.size()), columns = length + 1;
  std::vector<int32_t> tokens(rounds * per_microbatch * columns);
  std::vector<TokenScorer::Wanted> wanted(rounds);
  std::vector<int64_t> begins(1);  // of a picked row among all positions
  for (const int64_t row : picked) begins.push_back(begins.back() + rows[row].num_targets());
  std::vector<int64_t> own;  // position of each wanted one of this rank, microbatch by microbatch
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < per_microbatch; ++i) {
      const int64_t sequence = engine_.SequenceIndex(m, i, per_microbatch);
      if (sequence >= num_picked) continue;  // padding: token 0
      const TokenRow& row = rows[picked[sequence]];
      std::copy(row.tokens.begin(), row.tokens.end(), tokens.begin() + (m * per_microbatch + i) * columns);
      for (int64_t t = 0; t < row.num_targets(); ++t) {
        const int64_t position = row.first_target + t;
        wanted[m].rows.push_back(static_cast<int32_t>(i * length + position - 1));
        wanted[m].targets.push_back(row.tokens[position]);
        own.push_back(begins[sequence] + t);
      }
    }
  }
  scorer_.Begin(wanted);
  LanguageModel& model = engine_.parts().model;
  model.SetScorer(&scorer_);
  engine_.EvaluateLossSum(Tensor(tokens.data(), DType::kI32, {rounds, per_microbatch, columns}), num_picked);
  model.SetScorer(nullptr);

  const int64_t width = 1 + 2 * num_top_;
  std::vector<double> numbers(begins.back() * width);
  size_t at = 0;
  for (const std::vector<PositionScores>& microbatch : scorer_.scores()) {
    for (const PositionScores& position : microbatch) {
      double* out = numbers.data() + own[at++] * width;
      *out++ = position.target.log_prob;  // 0 but on the last stage
      for (const TokenScore& top : position.top) {
        *out++ = top.token;
        *out++ = top.log_prob;
      }
    }
  }
  world_.AllReduceSum(Tensor(numbers.data(), DType::kF64, {static_cast<int64_t>(numbers.size())}),
                      {.operation = "scores of rows"});
  const double* in = numbers.data();
  for (const int64_t row : picked) {
    for (int64_t t = 0; t < rows[row].num_targets(); ++t) {
      PositionScores& position = scores[row][t];
      position.target = {.token = rows[row].tokens[rows[row].first_target + t], .log_prob = *in++};
      position.top.resize(num_top_);
      for (TokenScore& top : position.top) {
        top.token = static_cast<int32_t>(*in++);
        top.log_prob = *in++;
      }
    }
  }
}

}  // namespace unipool
