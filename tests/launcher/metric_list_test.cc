// What a line of metrics.jsonl holds, and that launcher/reports/METRICS.md says it.
#include "launcher/reports/metric_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>
#include <random>
#include <set>
#include <sstream>

#include "tests/launcher/example_outcome.h"

namespace unipool {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

TEST(MetricList, LineHasTheKeysThatScriptsRelyOn) {
  const Json expected = {{"step", 2},
                         {"tokens", 8192},
                         {"loss", 2.5},
                         {"pool_loss", 0.16},
                         {"pool_loss_over_balance", 1.28},
                         {"max_violation", 1.5},
                         {"dead_experts", 3},
                         {"zero_score_share", 0.125},
                         {"tie_share", 0.1875},
                         {"effective_experts", 6.5},
                         {"grad_norm", 0.5},
                         {"lr", 0.0003},
                         {"tokens_per_second", 12345.0},
                         {"step_seconds", 2.0},
                         {"pool_shares_age", 1},
                         {"balance_seconds", 0.25},
                         {"peak_memory_bytes", 2100000},
                         {"peak_memory_rank", 3},
                         {"peak_memory",
                          {{"weights", 600000},
                           {"gradients", 700000},
                           {"optimizer", 800000},
                           {"activations", 0},
                           {"exchange", 0},
                           {"scratch", 0}}},
                         {"peak_memory_rows",
                          {{"stashed", 11},
                           {"kept", 0},
                           {"joined", 12},
                           {"batch", 13},
                           {"backward", 0},
                           {"forward_wire", 0},
                           {"backward_wire", 0},
                           {"forward_piece", 0},
                           {"backward_piece", 0},
                           {"unkept_piece", 0},
                           {"banked", 14}}},
                         {"lock_stage", 1},
                         {"lock_alpha", 0.625},
                         {"lock_entropy", 1.25},
                         {"off_mask_rows", 77},
                         {"wire_bytes", 1000},
                         {"wire_bytes_inter", 400},
                         {"blocked_ms", 30.0},
                         {"idle_ms", 20.0},
                         {"exposed_ms", 10.0},
                         {"hidden_share", 0.75},
                         {"waited_for_rank", 6},
                         {"waited_for_share", 0.5},
                         {"receive_imbalance", 1.5},
                         {"receive_imbalance_p95", 1.75},
                         {"most_rows_received", 96}};
  const Json line = Json::parse(StepLine(ExampleOutcome(2)));
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(line.value(key, Json()), value) << key;
  EXPECT_EQ(StepLine(ExampleOutcome(2)).find("{\"step\":2,\"tokens\":8192,\"loss\":2.5,"), 0u);
  StepOutcome several = ExampleOutcome(2);
  several.slot_imbalance = 1.25;
  EXPECT_EQ(Json::parse(StepLine(several))["slot_imbalance"], 1.25);
  EXPECT_FALSE(Json::parse(StepLine(ExampleOutcome(2))).contains("slot_imbalance"));
  StepOutcome silent = ExampleOutcome(2);
  silent.report.traffic->idle_ms.reset();
  EXPECT_FALSE(Json::parse(StepLine(silent)).contains("idle_ms"));
  EXPECT_TRUE(Json::parse(StepLine(silent)).contains("blocked_ms"));
  silent.report.load.lock.reset();
  EXPECT_FALSE(Json::parse(StepLine(silent)).contains("lock_stage"));
  silent.report.traffic.reset();
  EXPECT_FALSE(Json::parse(StepLine(silent)).contains("wire_bytes"));
  const Json valid = Json::parse(ValidationLine({.step = 7, .loss = 1.5}));
  EXPECT_EQ(valid["step"], 7);
  EXPECT_EQ(valid["valid_loss"], 1.5);
  EXPECT_EQ(valid["valid_perplexity"], std::exp(1.5));
  EXPECT_FALSE(valid.contains("valid_loss_by_source"));
  EXPECT_FALSE(valid.contains("lock_coverage_min"));
  const Json locked =
      Json::parse(ValidationLine({.step = 7, .loss = 1.5, .coverage_min = 0.75, .guard_excess = 0.03125}));
  EXPECT_EQ(locked["lock_coverage_min"], 0.75);
  EXPECT_EQ(locked["guard_excess"], 0.03125);
  EXPECT_FALSE(valid.contains("valid_loss_per_byte"));
  EXPECT_EQ(
      Json::parse(ValidationLine({.step = 7, .loss = 1.5, .bytes_per_token = 4}))["valid_loss_per_byte"],
      0.375);
  EXPECT_EQ(
      Json::parse(ValidationLine({.step = 7, .loss = 1.5, .bytes_per_token = 4}))["valid_bits_per_byte"],
      0.375 / std::numbers::ln2);
  EXPECT_FALSE(valid.contains("valid_bits_per_byte"));
  const Json blend =
      Json::parse(ValidationLine({.step = 7, .loss = 1.5, .by_source = {{"a", 1.25}, {"b", 2}, {"a", 3}}}));
  EXPECT_EQ(blend["valid_loss_by_source"], Json({{"a", 1.25}, {"b", 2}, {"a (2)", 3}}));
  EXPECT_FALSE(valid.contains("task_acc"));
  const Json tasks = Json::parse(ValidationLine({.step = 7,
                                                 .loss = 1.5,
                                                 .task_acc = {{"piqa", 0.5}, {"lambada", 0.25}},
                                                 .task_acc_norm = {{"piqa", 0.75}},
                                                 .task_perplexity = {{"lambada", 17}}}));
  EXPECT_EQ(tasks["task_acc"], Json({{"piqa", 0.5}, {"lambada", 0.25}}));
  EXPECT_EQ(tasks["task_acc_norm"], Json({{"piqa", 0.75}}));
  EXPECT_EQ(tasks["task_perplexity"], Json({{"lambada", 17}}));
}

TEST(MetricList, ScalarsAreTheNumbersOfTheLine) {
  std::map<std::string, double> named;
  for (const Scalar& scalar : StepScalars(ExampleOutcome(2))) named[scalar.name] = scalar.value;
  EXPECT_EQ(named.size(), Json::parse(StepLine(ExampleOutcome(2))).flatten().size() - 1)
      << "all but the step";
  EXPECT_EQ(named["loss"], 2.5);
  EXPECT_EQ(named["peak_memory/gradients"], 700000);
  EXPECT_EQ(named.count("step"), 0U);
  const auto valid = ValidationScalars({.step = 7, .loss = 1.5, .by_source = {{"a", 1.25}}});
  ASSERT_EQ(valid.size(), 3U);
  EXPECT_EQ(valid[2].name, "valid_loss_by_source/a");
}

TEST(MetricList, NumbersReadBackBitForBit) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    StepOutcome m = ExampleOutcome(1);
    m.report.loss = std::ldexp(std::uniform_real_distribution<double>(-1, 1)(random),
                               static_cast<int>(random() % 80) - 40);
    EXPECT_EQ(Json::parse(StepLine(m))["loss"].get<double>(), m.report.loss);
  }
  StepOutcome m = ExampleOutcome(1);
  m.report.loss = std::nan("");
  m.report.load.pool_loss_at_balance = 0;
  EXPECT_TRUE(Json::parse(StepLine(m))["loss"].is_null());
  EXPECT_TRUE(Json::parse(StepLine(m))["pool_loss_over_balance"].is_null());
}

TEST(MetricList, EachMetricIsDeclaredOnceAndSaysWhatItMeans) {
  std::set<std::string> names;
  for (const auto& metric : StepMetrics()) {
    EXPECT_TRUE(names.insert(metric.name).second) << metric.name << " is declared twice";
    EXPECT_GT(std::string(metric.meaning).size(), 10u) << metric.name;
    EXPECT_EQ(std::string(metric.meaning).find('|'), std::string::npos)
        << metric.name << " would break the table";
  }
  StepOutcome outcome = ExampleOutcome(1);
  outcome.slot_imbalance = 1;
  outcome.virtual_seconds = 1;
  EXPECT_FALSE(Json::parse(StepLine(outcome)).contains("skipped"));
  outcome.report.is_skipped = true;
  EXPECT_EQ(Json::parse(StepLine(outcome))["skipped"], 1);
  EXPECT_EQ(Json::parse(StepLine(outcome)).size(), names.size());
  EXPECT_EQ(Json::parse(MetricsJson()).size(), StepMetrics().size() + ValidationMetrics().size());
}

TEST(MetricList, TheDocumentHasTheTable) {
  std::ostringstream document;
  document << std::ifstream(UNIPOOL_SOURCE_DIR "/launcher/reports/METRICS.md").rdbuf();
  EXPECT_THAT(document.str(), HasSubstr(MetricsTable()))
      << "METRICS.md has another list of metrics than launcher/reports/metric_list.cc; put there what "
         "`unipool "
         "metrics` prints";
}

}  // namespace
}  // namespace unipool
