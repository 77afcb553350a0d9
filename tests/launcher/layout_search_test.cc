// The search against every layout tried by itself, and what it says of those that cannot be.
#include "launcher/plan/layout_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "launcher/config.h"
#include "launcher/plan/forecast.h"
#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr char kSmall[] =
    "model { layers: 3 hidden: 32 heads: 4 kv_heads: 2 seq_length: 16 vocab: 256 } "
    "moe { experts: 7 width: 16 } train { global_batch: 12 micro_batch: 1 }";

Cluster ClusterOf(const char* name) {
  return LoadClusterFile(std::string(UNIPOOL_SOURCE_DIR "/configs/clusters/") + name);
}

Config Small() {
  return ParseConfig(kSmall, "small");
}

// What the search should find, by another way: settings as texts, all ranks, blocks and microbatches.
struct Tried {
  std::string settings;
  double step = 0;
};
std::vector<Tried> TryAll(const Cluster& cluster, int ranks) {
  std::vector<Tried> tried;
  for (int replicas = 1; replicas <= ranks; ++replicas) {
    for (int stages = 1; stages <= 3; ++stages) {
      for (int micro = 1; micro <= 12; ++micro) {
        for (const char* experts : {"POOL", "PER_STAGE"}) {
          for (const auto& [lanes, head] :
               {std::pair("INTERLEAVED", "LAST_STAGE"), std::pair("SEQUENTIAL", "LAST_STAGE"),
                std::pair("INTERLEAVED", "SPREAD"), std::pair("SEQUENTIAL", "SPREAD")}) {
            const std::vector<std::string> settings{
                Format("parallel.ranks=%d", ranks),         Format("parallel.pool_replicas=%d", replicas),
                Format("parallel.stages=%d", stages),       Format("train.micro_batch=%d", micro),
                std::string("parallel.experts=") + experts, std::string("parallel.lanes=") + lanes,
                std::string("parallel.head=") + head};
            try {
              const Config config = ParseConfig(kSmall, "small", settings);
              ValidateConfig(config, ranks);
              const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
              const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
              const LevelRows rows(plan.rows, plan.experts_of);
              tried.push_back({settings[1] + settings[2] + settings[3], WalkStep(plan, rows).seconds});
            } catch (const UserError&) {
            }
          }
        }
      }
    }
  }
  return tried;
}

TEST(LayoutSearch, FindsTheBestOfSmallSpaces) {
  for (const char* name : {"gigabit.txtpb", "infinitely_fast.txtpb", "h100_nodes.txtpb"}) {
    const Cluster cluster = ClusterOf(name);
    for (const int ranks : {1, 2, 6, 8}) {
      const std::vector<Tried> tried = TryAll(cluster, ranks);
      const SearchResult result = SearchLayouts(Small(), cluster, {}, {.ranks = {ranks}});
      ASSERT_FALSE(result.layouts.empty());
      const auto best = std::min_element(tried.begin(), tried.end(),
                                         [](const Tried& a, const Tried& b) { return a.step < b.step; });
      EXPECT_NEAR(result.layouts[0].step, best->step, 0.01 * best->step) << name << ", " << ranks << " ranks";
      EXPECT_LE(result.layouts[0].step, best->step * 1.001);
    }
  }
}

// 36 ranks are more than are followed block by block always.
TEST(LayoutSearch, TheFirstOfManyRanksTakesAsLongAsItsPlan) {
  const Cluster cluster = ClusterOf("gigabit.txtpb");
  const SearchResult result = SearchLayouts(Small(), cluster, {}, {.ranks = {36}});
  ASSERT_FALSE(result.layouts.empty());
  const Layout& first = result.layouts[0];
  EXPECT_TRUE(first.is_exact);
  const Config config = ParseConfig(kSmall, "small", first.settings);
  const MeshShape mesh = MeshShapeOf(config.parallel(), first.ranks);
  const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
  EXPECT_NEAR(first.step / WalkStep(plan, LevelRows(plan.rows, plan.experts_of)).seconds, 1, 1e-6);
}

TEST(LayoutSearch, EachLayoutValidatesAndIsCountedOnce) {
  const Cluster cluster = ClusterOf("gigabit.txtpb");
  const SearchResult result = SearchLayouts(Small(), cluster, {}, {.ranks = {4, 8}});
  std::vector<std::vector<std::string>> seen;
  for (const Layout& layout : result.layouts) {
    EXPECT_NO_THROW(ValidateConfig(ParseConfig(kSmall, "small", layout.settings), layout.ranks));
    EXPECT_EQ(std::count(seen.begin(), seen.end(), layout.settings), 0);
    seen.push_back(layout.settings);
  }
  int64_t refused = 0;
  for (const auto& [reason, count] : result.refused) refused += count;
  EXPECT_EQ(refused + static_cast<int64_t>(result.layouts.size()), result.num_candidates);
  EXPECT_GT(result.refused.count("train.global_batch"), 0u);
  EXPECT_TRUE(std::is_sorted(
      result.layouts.begin(), result.layouts.end(),
      [](const Layout& a, const Layout& b) { return a.tokens_per_second > b.tokens_per_second; }));
}

// A layout is among the best exactly where no other is as good in all three.
TEST(LayoutSearch, NothingBeatsTheBest) {
  const SearchResult result = SearchLayouts(Small(), ClusterOf("gigabit.txtpb"), {}, {.ranks = {2, 4, 8}});
  int best = 0;
  for (const Layout& layout : result.layouts) {
    const bool is_beaten =
        std::any_of(result.layouts.begin(), result.layouts.end(), [&](const Layout& other) {
          return other.tokens_per_second > layout.tokens_per_second && other.memory <= layout.memory &&
                 other.ranks <= layout.ranks;
        });
    if (is_beaten) {
      EXPECT_FALSE(layout.is_best) << layout.settings[1];
    }
    best += layout.is_best;
  }
  EXPECT_GT(best, 0);
  EXPECT_TRUE(result.layouts[0].is_best);
}

TEST(LayoutSearch, MemoryAndGivenSettingsLimitIt) {
  const Cluster cluster = ClusterOf("gigabit.txtpb");
  const SearchResult all = SearchLayouts(Small(), cluster, {}, {.ranks = {4}});
  int64_t least = all.layouts[0].memory;
  for (const Layout& layout : all.layouts) least = std::min(least, layout.memory);
  const SearchResult few = SearchLayouts(Small(), cluster, {}, {.ranks = {4}, .max_memory = 1.2 * least});
  EXPECT_LT(few.layouts.size(), all.layouts.size());
  EXPECT_GT(few.layouts.size(), 0u);
  for (const Layout& layout : few.layouts) EXPECT_LE(layout.memory, 1.2 * least);
  Config config = Small();
  config.mutable_parallel()->set_stages(3);
  const SearchResult fixed = SearchLayouts(config, cluster, {"parallel.stages"}, {.ranks = {6}});
  for (const Layout& layout : fixed.layouts) EXPECT_EQ(layout.settings[2], "parallel.stages=3");
}

// As a run chooses on such a GPU, and as the plan of the layout itself counts them.
TEST(LayoutSearch, SlotsABankGoByTheMemoryOfTheCluster) {
  const auto memory = [](int slots, double gigabytes) {
    Cluster cluster = ClusterOf("gigabit.txtpb");
    cluster.config.mutable_memory()->set_gigabytes(gigabytes);
    Config config = Small();
    config.set_device(DeviceType::CUDA);
    config.mutable_train()->set_weight_grad_slots(slots);
    std::vector<int64_t> bytes;
    for (const Layout& layout :
         SearchLayouts(config, cluster, {}, {.ranks = {2}, .max_memory = 1e12}).layouts) {
      bytes.push_back(layout.memory);
    }
    return bytes;
  };
  EXPECT_EQ(memory(0, 80), memory(12, 80));
  EXPECT_EQ(memory(0, 1e-6), memory(4, 80));
  EXPECT_EQ(memory(0, 0), memory(4, 80)) << "a file without a room";
  EXPECT_NE(memory(12, 80), memory(4, 80));
}

}  // namespace
}  // namespace unipool
