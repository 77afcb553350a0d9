// What places of experts give: blocks, places by rows, and shadows, each no later than the one before on a
// free wire; and the number of shadows that a run takes by itself.
#include "launcher/plan/placement_gain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "launcher/config.h"
#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr char kModel[] =
    "model { layers: 4 hidden: 32 heads: 4 kv_heads: 2 seq_length: 512 vocab: 64 } "
    "moe { experts: 16 width: 64 } train { global_batch: 64 micro_batch: 1 } parallel { ranks: 4 }";

class PlacementGainTest : public testing::Test {
 protected:
  PlacementGainTest() { fs::create_directories(folder_); }
  ~PlacementGainTest() override { fs::remove_all(folder_); }
  // Products at 1 GFLOP/s, everything else at once.
  Cluster MakeCluster(const std::string& more) const {
    std::string text = more + " processor { ";
    for (int kind = 0; kind < kNumWorkKinds; ++kind) {
      const bool moves = kind == Work::ROWS || kind == Work::OPTIMIZER;
      text += "work { kind: " + Work::Kind_Name(static_cast<Work::Kind>(kind)) +
              " rate { giga_per_second: " + (moves ? "1e9" : "1") + " } } ";
    }
    const std::string path = (folder_ / "cluster.txtpb").string();
    std::ofstream(path) << text + "}";
    return LoadClusterFile(path);
  }
  // In each layer two neighbouring experts have 6 times the rows of each other one.
  static std::vector<double> HotShares() {
    std::vector<double> shares;
    for (int layer = 0; layer < 4; ++layer) {
      for (int e = 0; e < 16; ++e) shares.push_back((e < 2 ? 6 : 1) / 26.0);
    }
    return shares;
  }
  static std::string Take(Config& config) { return TakeShadows(4, config); }

  const fs::path folder_ = fs::path(testing::TempDir()) / ("placement_gain_" + std::to_string(getpid()));
};

TEST_F(PlacementGainTest, PlacesAndThenShadowsGiveTimeBack) {
  const Config config = ParseConfig(kModel, "model", {});
  const std::vector<PlacedStep> steps = PlacedSteps(config, 4, MakeCluster("intra_node { }"), HotShares());
  ASSERT_GE(steps.size(), 3u);
  EXPECT_NEAR(steps[0].imbalance, 14 / 6.5, 1e-9);  // both hot experts on the first rank
  EXPECT_NEAR(steps[1].imbalance, 9 / 6.5, 1e-9);   // a hot one beside three others
  EXPECT_LT(steps[2].imbalance, steps[1].imbalance);
  const double work = ShadowCostsOf(config, 4, MakeCluster("intra_node { }")).expert_seconds;  // if level
  EXPECT_NEAR(steps[0].step - steps[1].step, (14 - 9) / 6.5 * work, 0.3 * work);  // rows are drawn
  EXPECT_LT(steps[2].step, steps[1].step);
  int worth = 0;
  for (const PlacedStep& step : steps) {
    worth += step.is_worth;
    EXPECT_EQ(step.bytes, step.shadows * int64_t{3} * 64 * 32 * 8);
  }
  EXPECT_EQ(worth, 1);
  EXPECT_FALSE(steps[1].is_worth);
  EXPECT_THAT(PlacedStepsText(steps), HasSubstr("parallel.shadow_experts=auto"));
  EXPECT_EQ(PlacedStepsJson(steps).size(), steps.size());
}

TEST_F(PlacementGainTest, SlowWiresAndFullMemoryHaveNoShadows) {
  const Config config = ParseConfig(kModel, "model", {});
  const auto slow =
      PlacedSteps(config, 4, MakeCluster("intra_node { gigabytes_per_second: 0.00001 }"), HotShares());
  EXPECT_TRUE(slow[1].is_worth);
  const auto full =
      PlacedSteps(config, 4, MakeCluster("intra_node { } memory { gigabytes: 1e-4 }"), HotShares());
  EXPECT_EQ(full.size(), 2u);
  const Config alone = ParseConfig(kModel, "model", {"parallel.pool_replicas=4"});
  EXPECT_TRUE(PlacedSteps(alone, 4, MakeCluster("intra_node { }"), HotShares()).empty());
  EXPECT_TRUE(PlacedSteps(config, 4, MakeCluster("intra_node { }"), {}).empty());
}

TEST_F(PlacementGainTest, WithoutCountsThereAreNone) {
  const std::string run = "run_dir=" + (folder_ / "run").string();
  Config given = ParseConfig(kModel, "model", {run, "parallel.shadow_experts=2"});
  EXPECT_EQ(Take(given), "");
  EXPECT_EQ(given.parallel().shadow_experts(), 2);
  Config config = ParseConfig(kModel, "model", {run, "parallel.shadow_experts=-1"});
  EXPECT_EQ(ShadowsPerRank(config, MeshShapeOf(config.parallel(), 4)), 0);
  EXPECT_THAT(Take(config), HasSubstr("has counted no rows yet: they are taken as level"));
  EXPECT_EQ(config.parallel().shadow_experts(), 0);
  Config alone =
      ParseConfig(kModel, "model", {run, "parallel.shadow_experts=-1", "parallel.pool_replicas=4"});
  EXPECT_THAT(Take(alone), HasSubstr("each rank has the whole pool"));
  Config wrong = ParseConfig(kModel, "model", {run, "parallel.shadow_experts=-2"});
  EXPECT_THROW(ValidateConfig(wrong, 4), UserError);
}

}  // namespace
}  // namespace unipool
