// What a step's time is taken from: level rows are never planned slower than uneven ones, and more ranks than
// are followed block by block are planned as blocks would have it.
#include "launcher/plan/forecast_walk.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "launcher/config.h"
#include "launcher/plan/forecast.h"
#include "models/settings.h"

namespace unipool {
namespace {

constexpr char kModel[] =
    "model { layers: 8 hidden: 256 heads: 4 kv_heads: 2 seq_length: 256 vocab: 512 } "
    "moe { experts: 128 width: 256 } device: CUDA train { global_batch: 256 micro_batch: 1 }";

class ForecastWalkTest : public testing::Test {
 protected:
  // GPUs whose wires between nodes are `slower` times as slow.
  static Cluster ClusterOf(double slower) {
    Cluster cluster = LoadClusterFile(UNIPOOL_SOURCE_DIR "/configs/clusters/h100_nodes.txtpb");
    cluster.description.inter_node.bytes_per_second /= slower;
    return cluster;
  }
  struct Layout {
    int ranks = 0, replicas = 1, stages = 1;
    double slower = 1;
  };
  struct Case {
    StepPlan plan;
    LevelRows level;
    std::vector<std::unique_ptr<RoutedRows>> draws;
  };
  // Rows drawn from shares of the experts that differ by `imbalance`.
  static Case CaseOf(const Layout& layout, Imbalance imbalance) {
    const Config config =
        ParseConfig(kModel, "model",
                    {Format("parallel.ranks=%d", layout.ranks), Format("parallel.stages=%d", layout.stages),
                     Format("parallel.pool_replicas=%d", layout.replicas),
                     Format("train.global_batch=%d", 4 * layout.ranks / layout.stages)});
    const MeshShape mesh = MeshShapeOf(config.parallel(), layout.ranks);
    const Cluster cluster = ClusterOf(layout.slower);
    const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
    const std::vector<double> shares = AssumedShares(config, imbalance);
    return {.plan = plan,
            .level = LevelRows(plan.rows, plan.experts_of),
            .draws = Draw(plan.rows, mesh, shares, PlacementFor(config, mesh, shares))};
  }
};

TEST_F(ForecastWalkTest, LevelRowsAreNeverSlower) {
  for (const int stages : {1, 2}) {
    for (const int ranks : {64, 512}) {
      for (const double slower : {1, 100}) {
        for (const int replicas : {1, 8}) {
          if (ranks / replicas > 64 || (ranks > 64 && slower == 1)) continue;
          // Of even shares chance alone makes rows uneven.
          for (const Imbalance imbalance : {Imbalance::kLevel, Imbalance::kLate}) {
            const Case c = CaseOf({ranks, replicas, stages, slower}, imbalance);
            const double level = WalkForecast(c.plan, c.level).seconds;
            EXPECT_GE(WalkForecast(c.plan, *c.draws[0]).seconds, level * 0.999)
                << ranks << " ranks, " << replicas << " replicas, " << stages << " stages, " << slower;
          }
        }
      }
    }
  }
}

// 1,024 ranks: too many blocks for a plan, and few enough for a test.
TEST_F(ForecastWalkTest, RowsOfManyRanksAreNearTheirBlocks) {
  for (const auto& [stages, slower] : {std::pair(1, 20.0), std::pair(2, 100.0)}) {
    const Case c = CaseOf({1024, 8, stages, slower}, Imbalance::kLate);
    const RoutedRows& late = *c.draws[0];
    ASSERT_EQ(StepWalkFor(c.plan, c.level).detail, WalkDetail::kBlocks);
    ASSERT_EQ(StepWalkFor(c.plan, late).detail, WalkDetail::kTotals);
    const double slots = WalkStep(c.plan, late, {.has_end = false}).seconds;
    const StepTimes planned = WalkForecast(c.plan, late);
    EXPECT_NEAR(planned.slot_seconds / slots, 1, 0.01);
    const double totals = WalkStep(c.plan, late, {.detail = WalkDetail::kTotals, .has_end = false}).seconds;
    EXPECT_LT(std::abs(planned.slot_seconds / slots - 1), 0.5 * std::abs(totals / slots - 1))
        << "totals alone are further off";
    for (const WalkedRank& rank : planned.walked) EXPECT_GE(rank.exposed, 0);
  }
}

// Of few ranks each draw's blocks; of many the median's, which the others lie around as in an outline.
TEST_F(ForecastWalkTest, DrawsAreAroundTheirMedian) {
  for (const int ranks : {16, 64}) {
    const Case c = CaseOf({ranks, 1, 1, 20}, Imbalance::kEarly);
    std::vector<double> steps;
    for (const auto& draw : c.draws) steps.push_back(WalkStep(c.plan, *draw).seconds);
    const DrawnSteps drawn = WalkDraws(c.plan, c.draws);
    EXPECT_EQ(drawn.times.seconds, steps[drawn.median]);
    std::sort(steps.begin(), steps.end());
    const double bound = ranks == 16 ? 1e-12 : 0.01;
    EXPECT_NEAR(drawn.low / steps.front(), 1, bound);
    EXPECT_NEAR(drawn.times.seconds / steps[steps.size() / 2], 1, bound);
    EXPECT_NEAR(drawn.high / steps.back(), 1, bound);
    EXPECT_LT(drawn.low, drawn.high);
  }
}

TEST_F(ForecastWalkTest, FewRanksAreFollowedBlockByBlock) {
  for (const int ranks : {32, 64}) {
    const Case c = CaseOf({ranks, 1, 1, 20}, Imbalance::kLate);
    const std::vector<const RoutedRows*> both{&c.level, c.draws[0].get()};
    for (const RoutedRows* rows : both)
      EXPECT_EQ(WalkForecast(c.plan, *rows).seconds, WalkStep(c.plan, *rows).seconds) << ranks;
  }
}

}  // namespace
}  // namespace unipool
