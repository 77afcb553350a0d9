// The predicted step time against the formulas, and the chosen layers against every other way to cut.
#include "parallel/stage_balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

constexpr PoolSpan kSpans[] = {PoolSpan::kReplica, PoolSpan::kStage};

// All ways to cut num_layers into num_stages parts of at least 1.
void ForEachComposition(int num_layers, int num_stages, std::vector<int>& layers,
                        const std::function<void(const std::vector<int>&)>& body) {
  if (num_stages == 1) {
    layers.push_back(num_layers);
    body(layers);
    layers.pop_back();
    return;
  }
  for (int first = 1; first <= num_layers - num_stages + 1; ++first) {
    layers.push_back(first);
    ForEachComposition(num_layers - first, num_stages - 1, layers, body);
    layers.pop_back();
  }
}

double TimeOf(const std::vector<int>& layers, int microbatches, const StageWork& work, PoolSpan span) {
  return PredictStepTime(SlotSchedule(layers, microbatches), work, span);
}

TEST(StageBalance, EqualStagesGiveTheFormulas) {
  const double a = 1.25, e = 3.5, head = 0.75;
  for (int stages = 1; stages <= 6; ++stages) {
    for (int microbatches = 1; microbatches <= 8; ++microbatches) {
      for (int n = 1; n <= 3; ++n) {
        const std::vector<int> layers(stages, n);
        const int times = microbatches + stages - 1;
        const StageWork layers_alone{.dense = a, .expert = e};
        // Weight gradients fill waits while the pipeline drains: the second part of a slot's, a third of e.
        const double filled = (stages - 1) * e / 3, pool = times * n * 3 * a + microbatches * n * 3 * e,
                     per_stage = times * n * 3 * (a + e);
        const double in_pool = TimeOf(layers, microbatches, layers_alone, PoolSpan::kReplica),
                     in_stages = TimeOf(layers, microbatches, layers_alone, PoolSpan::kStage);
        if (microbatches > 1) {
          EXPECT_NEAR(in_pool, pool, 1e-9);
        }
        EXPECT_LE(in_pool, pool + 1e-9);
        EXPECT_GE(in_pool, pool - filled - 1e-9);
        EXPECT_LE(in_stages, per_stage + 1e-9);
        EXPECT_GE(in_stages, per_stage - filled - 1e-9);
        // A last stage that lacks no layer: everybody waits for its head.
        EXPECT_NEAR(TimeOf(layers, microbatches, {.dense = a, .head = head}, PoolSpan::kReplica),
                    times * n * 3 * a + microbatches * 3 * head, 1e-9);
      }
    }
  }
}

// Two layers for a head of one, two or three and a half of them. If the head filled what is missing, a
// microbatch would take the longer of 12 and 3 (2 + head). But a slot's backward of dense work is done in the
// slot after, where parts of the head meet it: that much longer it takes.
TEST(StageBalance, HeadStandsInForMissingLayers) {
  const int many = 1000;
  for (const auto& [head, expected] : {std::pair(1.0, 13.5), std::pair(2.0, 15.0), std::pair(3.5, 18.75)}) {
    const StageWork work{.dense = 1, .head = head, .head_chunks = 3600};
    const double per_microbatch = TimeOf({4, 2}, many, work, PoolSpan::kReplica) / many;
    EXPECT_GE(per_microbatch, 3 * std::max(4.0, 2 + head));
    EXPECT_NEAR(per_microbatch, expected, 0.02) << head;
  }
  // The whole head in one slot, since it is one chunk: that slot costs what the others do not pay.
  const StageWork lump{.dense = 1, .head = 2, .head_chunks = 1};
  EXPECT_NEAR(TimeOf({4, 2}, many, lump, PoolSpan::kReplica) / many, 16, 0.02);
}

TEST(StageBalance, IdealIsAllWorkShared) {
  const StageWork work{.dense = 1, .expert = 3, .head = 2};
  EXPECT_DOUBLE_EQ(IdealStepTime(SlotSchedule({2, 1}, 5), work), 5 * 3 * (3 * 4.0 + 2) / 2);
}

TEST(StageBalance, NoOtherCutIsPredictedFaster) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  std::uniform_real_distribution<double> uniform(0, 1);
  int uneven = 0, cuts = 0;
  for (int stages = 1; stages <= 4; ++stages) {
    for (int layers = stages; layers <= 10; ++layers) {
      for (const PoolSpan span : kSpans) {
        const StageWork work{.dense = 0.5 + uniform(random),
                             .expert = 4 * uniform(random),
                             .head = 8 * uniform(random) * uniform(random),
                             .head_chunks = 1 + static_cast<int>(random() % 60)};
        const int microbatches = 1 + static_cast<int>(random() % 12);
        const std::vector<int> chosen = ChooseLayersPerStage(layers, stages, microbatches, work, span);
        ASSERT_EQ(std::accumulate(chosen.begin(), chosen.end(), 0), layers);
        const double time = TimeOf(chosen, microbatches, work, span);
        const double worth = chosen == EvenLayers(layers, stages) ? kWorthwhile : 1e-9;
        std::vector<int> cut;
        ForEachComposition(layers, stages, cut, [&](const std::vector<int>& other) {
          ++cuts;
          EXPECT_GE(TimeOf(other, microbatches, work, span), time * (1 - worth) * (1 - 1e-12))
              << ::testing::PrintToString(other) << " against " << ::testing::PrintToString(chosen) << ", B "
              << microbatches << ", a " << work.dense << ", e " << work.expert << ", head " << work.head
              << " in " << work.head_chunks << ", span " << static_cast<int>(span);
        });
        EXPECT_GE(time, IdealStepTime(SlotSchedule(chosen, microbatches), work) * (1 - 1e-9));
        uneven += chosen.back() < EvenLayers(layers, stages).back();
      }
    }
  }
  EXPECT_GT(uneven, 0);  // the search does find cuts
  EXPECT_GT(cuts, 700);
}

// Beyond what is compared one by one: the restricted choice is still much better than an even cut.
TEST(StageBalance, ManyLayersOnManyStages) {
  const StageWork work{.dense = 1, .expert = 3, .head = 10, .head_chunks = 32};
  const std::vector<int> chosen = ChooseLayersPerStage(48, 8, 64, work, PoolSpan::kReplica);
  EXPECT_EQ(std::accumulate(chosen.begin(), chosen.end(), 0), 48);
  EXPECT_EQ(chosen.back(), 1);
  EXPECT_LE(*std::max_element(chosen.begin(), chosen.end()), 7);
  EXPECT_LT(TimeOf(chosen, 64, work, PoolSpan::kReplica),
            0.9 * TimeOf(EvenLayers(48, 8), 64, work, PoolSpan::kReplica));
}

double TimeSpread(const std::vector<int>& layers, int microbatches, const StageWork& work, PoolSpan span) {
  return PredictStepTime(SlotSchedule(layers, microbatches, false, HeadPlace::kSpread), work, span);
}

// Every microbatch's head is an even share of all stages: no bubble of its own.
TEST(StageBalance, SpreadHeadAddsItsShare) {
  const StageWork work{.dense = 1.25, .expert = 3.5, .head = 7, .head_chunks = 5};
  const StageWork without{.dense = 1.25, .expert = 3.5};
  for (const PoolSpan span : kSpans) {
    for (const std::vector<int>& layers : {std::vector<int>{2, 2}, {3, 1}, {1, 1, 2, 1}}) {
      const auto stages = static_cast<double>(layers.size());
      // Ranks that wait for uneven stages anyway do some of it meanwhile.
      const double most = TimeOf(layers, 6, without, span) + 6 * 3 * work.head / stages;
      EXPECT_LE(TimeSpread(layers, 6, work, span), most + 1e-9);
      EXPECT_GE(TimeSpread(layers, 6, work, span), 0.96 * most);
      const SlotSchedule forward(layers, 6, true, HeadPlace::kSpread), plain(layers, 6, true);
      const double most_forward = PredictStepTime(plain, without, span) + 6 * work.head / stages;
      EXPECT_LE(PredictStepTime(forward, work, span), most_forward + 1e-9);
      EXPECT_GE(PredictStepTime(forward, work, span), 0.96 * most_forward);
      if (span == PoolSpan::kReplica && layers == std::vector<int>{2, 2}) {
        EXPECT_NEAR(TimeSpread(layers, 6, work, span), most, 1e-9);
        EXPECT_NEAR(PredictStepTime(forward, work, span), most_forward, 1e-9);
      }
    }
  }
}

// configs/unipool_830m.txtpb on 8 stages: experts 3.16 times a layer's dense work, a head of 12.9.
TEST(StageBalance, SpreadHeadMakesLayersEvenAgain) {
  const StageWork work{.dense = 1, .expert = 3.16, .head = 12.9, .head_chunks = 128};
  const auto bubble = [&](const SlotSchedule& schedule) {
    return 1 - IdealStepTime(schedule, work) / PredictStepTime(schedule, work, PoolSpan::kReplica);
  };
  const std::vector<int> last = ChooseLayersPerStage(48, 8, 8, work, PoolSpan::kReplica);
  const std::vector<int> spread =
      ChooseLayersPerStage(48, 8, 8, work, PoolSpan::kReplica, HeadPlace::kSpread);
  EXPECT_EQ(spread, std::vector<int>(8, 6));
  EXPECT_EQ(last.back(), 1);
  EXPECT_GT(bubble(SlotSchedule(last, 8)), 0.30);
  EXPECT_LT(bubble(SlotSchedule(spread, 8, false, HeadPlace::kSpread)), 0.17);
  EXPECT_EQ(ChooseHeadPlace(48, 8, 8, work, PoolSpan::kReplica), HeadPlace::kSpread);
}

TEST(StageBalance, HeadIsSpreadWhereThatIsPredictedToPay) {
  SCOPED_TRACE(SeedText());
  std::mt19937 random(FreshSeed());
  std::uniform_real_distribution<double> uniform(0, 1);
  int num_spread = 0, num_last = 0;
  for (int i = 0; i < 300; ++i) {
    const int stages = 2 + static_cast<int>(random() % 3), layers = stages + static_cast<int>(random() % 6);
    const StageWork work{.dense = 0.5 + uniform(random),
                         .expert = 4 * uniform(random),
                         .head = 6 * uniform(random) * uniform(random) * uniform(random),
                         .head_chunks = 1 + static_cast<int>(random() % 60)};
    // So few are walked one by one.
    const int microbatches = 1 + static_cast<int>(random() % (2 * stages));
    const PoolSpan span = kSpans[random() % 2];
    const std::vector<int> last = ChooseLayersPerStage(layers, stages, microbatches, work, span);
    const std::vector<int> spread =
        ChooseLayersPerStage(layers, stages, microbatches, work, span, HeadPlace::kSpread);
    const double gain =
        1 - TimeSpread(spread, microbatches, work, span) / TimeOf(last, microbatches, work, span);
    if (std::abs(gain - kWorthwhile) < 1e-9) continue;
    const HeadPlace place = ChooseHeadPlace(layers, stages, microbatches, work, span);
    EXPECT_EQ(place == HeadPlace::kSpread, gain > kWorthwhile) << gain;
    (place == HeadPlace::kSpread ? num_spread : num_last) += 1;
    const double given =
        1 - TimeSpread(last, microbatches, work, span) / TimeOf(last, microbatches, work, span);
    if (std::abs(given - kWorthwhile) < 1e-9) continue;
    EXPECT_EQ(ChooseHeadPlace(layers, stages, microbatches, work, span, last) == HeadPlace::kSpread,
              given > kWorthwhile);
  }
  EXPECT_GT(num_spread, 20);
  EXPECT_GT(num_last, 20);
  EXPECT_EQ(ChooseHeadPlace(4, 1, 4, {.dense = 1, .head = 9}, PoolSpan::kReplica), HeadPlace::kLastStage);
}

TEST(StageBalance, WithoutAHeadStagesAreEven) {
  for (const PoolSpan span : kSpans) {
    EXPECT_EQ(ChooseLayersPerStage(12, 4, 8, {.dense = 1, .expert = 3}, span),
              (std::vector<int>{3, 3, 3, 3}));
    EXPECT_EQ(ChooseLayersPerStage(9, 1, 8, {.dense = 1, .expert = 3}, span), (std::vector<int>{9}));
  }
}

}  // namespace
}  // namespace unipool
