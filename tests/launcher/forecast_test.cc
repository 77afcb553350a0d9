// Forecasts of whole settings: the free wire and level rows give info's predictions, the parts add up,
// and rows that are drawn have the shares that they are drawn from.
#include "launcher/plan/forecast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "launcher/config.h"
#include "launcher/plan/forecast_text.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr char kModel[] =
    "model { layers: 6 hidden: 32 heads: 4 kv_heads: 2 seq_length: 16 vocab: 64 } "
    "moe { experts: 24 width: 16 } train { global_batch: 48 micro_batch: 1 }";

class ForecastTest : public testing::Test {
 protected:
  ForecastTest() { fs::create_directories(folder_); }
  ~ForecastTest() override { fs::remove_all(folder_); }
  // Products at 1 GFLOP/s, everything else at once; `more`: wires.
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
  static Forecast Plan(const Config& config, const Cluster& cluster, const RowsWanted& wanted = {}) {
    const int ranks = config.parallel().ranks();
    const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
    return MakeForecast(config, ranks, cluster, FindRows(wanted, config, mesh, 16));
  }
  static Config Settings(std::vector<std::string> overrides) {
    return ParseConfig(kModel, "model", overrides);
  }
  const fs::path folder_ = fs::path(testing::TempDir()) / ("forecast_test_" + std::to_string(getpid()));
};

TEST_F(ForecastTest, SaysWhenRatesAreOfAnotherPrecision) {
  const Config config = Settings({"parallel.ranks=2"});
  Cluster cluster = MakeCluster("intra_node { }");
  cluster.config.mutable_processor()->set_measured_with("CPU FP32");
  EXPECT_THAT(Plan(config, cluster).notes, testing::Not(testing::Contains(HasSubstr("measured with"))));
  cluster.config.mutable_processor()->set_measured_with("CPU BF16");
  EXPECT_THAT(Plan(config, cluster).notes, testing::Contains(HasSubstr("measured with CPU BF16")));
}

// A rank of each stage stands for the others. 30 experts on 48 ranks: 18 have none, and wait.
TEST_F(ForecastTest, ExpertsThatDoNotDivideOverManyRanks) {
  const Cluster cluster =
      MakeCluster("ranks_per_node: 6 intra_node { } inter_node { gigabytes_per_second: 1 }");
  for (const int stages : {1, 2}) {
    const Config config =
        Settings({"moe.experts=30", "parallel.ranks=48", Format("parallel.stages=%d", stages)});
    const Forecast forecast = Plan(config, cluster);
    const MeshShape mesh = MeshShapeOf(config.parallel(), 48);
    const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
    const LevelRows rows(plan.rows, plan.experts_of);
    const StepTimes all = WalkStep(plan, rows, {.detail = WalkDetail::kTotals, .ranks = WalkRanks::kAll});
    double compute = 0, experts = 0;
    for (const WalkedRank& rank : all.walked) compute += rank.compute / 48;
    for (const WorkSeconds& work : all.work)
      experts += work[static_cast<int>(WorkKind::kExpertsForward)] / 48;
    EXPECT_NEAR(forecast.ideal / compute, 1, 0.01) << stages;
    EXPECT_NEAR(forecast.breakdown.work[static_cast<int>(WorkKind::kExpertsForward)] / experts, 1, 0.01)
        << stages;
    for (const WireKind kind : {kIntraNode, kInterNode})
      EXPECT_NEAR(forecast.bytes[kind] / all.bytes[kind], 1, 0.01) << stages << ", " << kind;
    EXPECT_NEAR(forecast.step / all.seconds, 1, 0.02) << stages;
    const auto is_named = [](const Loss& loss) {
      return loss.name.find("share out evenly") != loss.name.npos;
    };
    const auto loss = std::find_if(forecast.losses.begin(), forecast.losses.end(), is_named);
    ASSERT_NE(loss, forecast.losses.end());
    EXPECT_GT(loss->seconds, 0.3 * experts);
  }
}

TEST_F(ForecastTest, AFreeWireIsWhatInfoPredicts) {
  const Cluster cluster = MakeCluster("intra_node { }");
  for (const auto& [experts, head] : {std::pair("POOL", "LAST_STAGE"), std::pair("PER_STAGE", "LAST_STAGE"),
                                      std::pair("POOL", "SPREAD"), std::pair("PER_STAGE", "SPREAD")}) {
    for (const int stages : {1, 2, 3}) {
      const Config config =
          Settings({Format("parallel.stages=%d", stages), Format("parallel.ranks=%d", 2 * stages),
                    std::string("parallel.experts=") + experts, std::string("parallel.head=") + head,
                    stages == 2 ? "parallel.layers_per_stage=3,3" : "parallel.lanes=INTERLEAVED"});
      const MeshShape mesh = MeshShapeOf(config.parallel(), 2 * stages);
      const std::vector<int> layers = LayersPerStage(config, mesh);
      const SlotSchedule schedule = TrainingSchedule(config, mesh);
      const StageWork work = EstimateWork(config);
      const double predicted = 1e-9 * PredictStepTime(schedule, work, mesh.span);
      const Forecast forecast = Plan(config, cluster);
      // 16 tokens are no even shares of three stages' heads.
      const bool has_shares = schedule.head_place() == HeadPlace::kSpread && stages == 3;
      const bool is_even = layers.front() == layers.back() && !has_shares;
      // Stages with pools of their own wait for their neighbours alone, not for all.
      const double bound = mesh.span == PoolSpan::kStage ? 0.1 : is_even ? 1e-3 : 0.03;
      EXPECT_NEAR(forecast.step, predicted, bound * predicted) << stages << " " << experts << " " << head;
      EXPECT_NEAR(forecast.ideal, 1e-9 * IdealStepTime(schedule, work), 1e-3 * forecast.ideal);
    }
  }
}

TEST_F(ForecastTest, PartsAndLossesAddUp) {
  const Cluster cluster = MakeCluster(
      "ranks_per_node: 2 intra_node { latency_us: 5 gigabytes_per_second: 1 } "
      "inter_node { latency_us: 50 gigabytes_per_second: 0.02 }");
  const Config config = Settings({"parallel.ranks=8", "parallel.stages=2", "parallel.pool_replicas=2"});
  const Forecast forecast = Plan(config, cluster, {.counts = "", .imbalance = Imbalance::kEarly});
  const Breakdown& parts = forecast.breakdown;
  EXPECT_NEAR(std::accumulate(parts.work.begin(), parts.work.end(), 0.0) + parts.idle + parts.exposed +
                  parts.after_last,
              forecast.step, 1e-9 * forecast.step);
  double losses = 0;
  for (const Loss& loss : forecast.losses) losses += loss.name == "small pieces of work" ? 0 : loss.seconds;
  EXPECT_NEAR(forecast.ideal + losses, forecast.step, 0.01 * forecast.step);
  EXPECT_LE(forecast.step_low, forecast.step);
  EXPECT_LE(forecast.step, forecast.step_high);
  EXPECT_LT(forecast.share_of_ideal(), 1);
}

// The room of the cluster file is that of the GPU: a tenth of it stays free with what is planned.
TEST_F(ForecastTest, SlotsABankGoByTheMemoryOfTheCluster) {
  const auto level = [this](const Config& config, double gigabytes) {
    return Plan(config, MakeCluster(Format("intra_node { } memory { gigabytes: %.9f }", gigabytes)))
        .memory[0]
        .level;
  };
  const auto with = [](const std::string& slots) {
    return Settings({"device=CUDA", "parallel.ranks=2", "train.weight_grad_slots=" + slots});
  };
  EXPECT_EQ(level(with("0"), 100), level(with("12"), 100));
  EXPECT_EQ(level(with("0"), 1e-3), level(with("4"), 100));
  EXPECT_EQ(level(with("0"), 0), level(with("4"), 100)) << "a file without a room";
  EXPECT_NE(level(with("12"), 100), level(with("4"), 100));
  EXPECT_EQ(level(with("5"), 100), level(with("5"), 1e-3));
}

TEST_F(ForecastTest, MoreImbalanceIsNeverFaster) {
  const Cluster cluster = MakeCluster("intra_node { }");
  const Config config = Settings({"parallel.ranks=6"});
  const double level = Plan(config, cluster).step;
  const double late = Plan(config, cluster, {.counts = "", .imbalance = Imbalance::kLate}).step;
  const double early = Plan(config, cluster, {.counts = "", .imbalance = Imbalance::kEarly}).step;
  EXPECT_LT(level, late);
  EXPECT_LT(late, early);
}

TEST_F(ForecastTest, SlotAwarePlacementGivesTimeBack) {
  const Cluster cluster = MakeCluster("intra_node { }");
  const RowsWanted early{.counts = "", .imbalance = Imbalance::kEarly};
  const double contiguous =
      Plan(Settings({"parallel.ranks=6", "parallel.placement=CONTIGUOUS"}), cluster, early).step;
  EXPECT_LT(Plan(Settings({"parallel.ranks=6"}), cluster, early).step, contiguous);
}

TEST_F(ForecastTest, DrawnRowsHaveTheirShares) {
  const std::vector<double> shares{0.5, 0.2, 0.2, 0.1, 0, 0, 0.4, 0.6};  // 2 layers, 4 experts
  const DrawnRows rows(100, 3, shares, ContiguousPlacement(4, 2), 7);
  double first[2] = {0, 0}, spread = 0;
  constexpr int kDraws = 2000;
  for (int m = 0; m < kDraws; ++m) {
    for (const int layer : {0, 1}) {
      double owners[2];
      rows.Fill(0, m % 3, m, layer, owners);
      EXPECT_NEAR(owners[0] + owners[1], 100, 1e-9);
      first[layer] += owners[0] / kDraws;
      if (layer == 0) spread += (owners[0] - 70) * (owners[0] - 70) / kDraws;
    }
  }
  EXPECT_NEAR(first[0], 70, 0.5);
  EXPECT_EQ(first[1], 0);
  EXPECT_NEAR(spread, 100 * 100 * 0.7 * 0.3 / 300, 1.5);  // of 300 independent choices
  double again[2], before[2];
  rows.Fill(0, 0, 5, 0, before);
  rows.Fill(0, 2, 5, 0, again);
  EXPECT_EQ(before[0], again[0]);
}

// Of experts that rows seldom choose few get one.
TEST_F(ForecastTest, UnevenRowsUseFewerExperts) {
  const DrawnRows level(64, 1, std::vector<double>(16, 1.0 / 16), ContiguousPlacement(16, 2), 1);
  EXPECT_NEAR(level.UsedExperts(2), 1 - std::exp(-2), 0.01);
  EXPECT_NEAR(level.UsedExperts(1000), 1, 1e-6);
  std::vector<double> shares(16, 0.01 / 14);
  shares[0] = shares[1] = 0.495;
  const DrawnRows uneven(64, 1, shares, ContiguousPlacement(16, 2), 1);
  EXPECT_NEAR(uneven.UsedExperts(4), (2 + 14 * (1 - std::exp(-64 * 0.01 / 14))) / 16, 0.01);
  EXPECT_LT(uneven.UsedExperts(4), level.UsedExperts(4) / 4);
}

TEST_F(ForecastTest, TextSaysWhatIsNotCalibrated) {
  const Cluster cluster = MakeCluster("intra_node { }");
  const std::string text = ForecastText(Plan(Settings({"parallel.ranks=2"}), cluster), cluster, {});
  EXPECT_EQ(text.rfind("not calibrated: ", 0), 0u) << text;
  EXPECT_THAT(text, HasSubstr("ASSUMED"));
  const Cluster measured =
      MakeCluster("intra_node { } origin { field: 'processor' tag: MEASURED source: 'here' }");
  EXPECT_EQ(CalibrationText(measured), "");
}

TEST_F(ForecastTest, RunsWithoutRecordsAreRefused) {
  const Cluster cluster = MakeCluster("intra_node { }");
  const auto problem = [&](const std::string& counts) -> std::string {
    try {
      Plan(Settings({"parallel.ranks=2"}), cluster, {.counts = counts});
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(problem((folder_ / "nowhere").string()), HasSubstr("is no folder"));
  EXPECT_THAT(problem(folder_.string()), HasSubstr("train with traffic.record=FULL"));
}

}  // namespace
}  // namespace unipool
