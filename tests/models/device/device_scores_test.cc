// Scores of texts on a device are those of the CPU.
#include <gtest/gtest.h>

#include "models/token_scorer.h"
#include "tests/models/device/device_run.h"

namespace unipool {
namespace {

// Two microbatches of three sequences of three tokens; of each the last two positions, twice over.
std::vector<double> Scores(TrainingEngine& engine, DeviceContext* device) {
  std::vector<int32_t> samples;
  std::vector<TokenScorer::Wanted> wanted(2);
  for (int64_t m = 0; m < 2; ++m) {
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t p = 0; p <= 3; ++p) samples.push_back(SampleToken(9, m, i, p, 11));
      for (const int64_t p : {1, 2}) {
        wanted[m].rows.push_back(static_cast<int32_t>(3 * i + p));
        wanted[m].targets.push_back(SampleToken(9, m, i, p + 1, 11));
      }
    }
  }
  std::vector<double> scores;
  TokenScorer scorer(2, device, engine.parts().place.memory());
  for (int time = 0; time < 2; ++time) {
    scorer.Begin(wanted);
    engine.parts().model.SetScorer(&scorer);
    engine.EvaluateLossSum(Tensor(samples.data(), DType::kI32, {2, 3, 4}), 6);
    engine.parts().model.SetScorer(nullptr);
    for (const auto& microbatch : scorer.scores()) {
      for (const PositionScores& position : microbatch) {
        scores.push_back(position.target.log_prob);
        for (const TokenScore& top : position.top) scores.push_back(top.log_prob);
      }
    }
  }
  return scores;
}

TEST(DeviceScores, AreThoseOfTheCpu) {
  const Config config = DeviceConfigOf({.experts = 7, .top_k = 2, .layers = 2});
  OneRank one;
  TrainingEngine on_cpu(config, one.world);
  const std::vector<double> expected = Scores(on_cpu, nullptr);
  EXPECT_EQ(expected.size(), 2u * 12 * 3);
  for (const RunPolicy policy : {RunPolicy::kEager, RunPolicy::kLate}) {
    for (const TrainConfig::Precision precision : {TrainConfig::FP32, TrainConfig::BF16}) {
      OneRank other;
      AsyncDevice device(policy);
      TrainingEngine engine(OnDevice(config, precision), other.world, {.device = &device});
      const std::vector<double> scores = Scores(engine, &device);
      ASSERT_EQ(scores.size(), expected.size());
      for (size_t i = 0; i < scores.size(); ++i) {
        EXPECT_NEAR(scores[i], expected[i], precision == TrainConfig::FP32 ? 1e-4 : 0.05) << i;
      }
    }
  }
}

}  // namespace
}  // namespace unipool
