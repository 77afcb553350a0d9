// Groups, pairs and errors of a comparison, on made-up runs whose answers are known.
#include "launcher/reports/run_comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::HasSubstr;

// Steps 1 to `steps` with losses near base, validations every 10 steps with base + seed / 100.
ComparedRun MadeRun(const std::string& path, const std::string& preset, uint64_t seed, double base,
                    int64_t steps = 40) {
  ComparedRun run{.path = path, .config = LoadConfig(UNIPOOL_SOURCE_DIR "/configs/" + preset + ".txtpb", {})};
  run.config.set_run_dir(path);
  run.config.mutable_train()->set_seed(seed);
  for (int64_t step = 1; step <= steps; ++step) {
    run.series["loss"].emplace_back(step, base + 0.01 * static_cast<double>(seed));
    run.series["tokens_per_second"].emplace_back(step, 1000 * base);
    run.series["pool_loss_over_balance"].emplace_back(step, base / 2);
    if (step % 10 == 0)
      run.series["valid_loss"].emplace_back(step, base + 1 + 0.1 * static_cast<double>(seed));
  }
  return run;
}

std::string ProblemOf(const std::vector<ComparedRun>& runs) {
  try {
    Compare(runs);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(RunComparison, EstimatesMeanAndError) {
  EXPECT_EQ(EstimateOf({3}).mean, 3);
  EXPECT_FALSE(EstimateOf({3}).error);
  EXPECT_DOUBLE_EQ(EstimateOf({1, 2, 6}).mean, 3);
  EXPECT_DOUBLE_EQ(*EstimateOf({1, 2, 6}).error, std::sqrt(7. / 3));
  EXPECT_EQ(EstimateOf({1, 2, 6}).count, 3);
}

TEST(RunComparison, PairsBySeedAndStep) {
  // The seeds' own offsets are larger than the difference, and go away in it: 0.5, 0.5 and 0.8.
  const std::vector<ComparedRun> runs = {
      MadeRun("runs/a-1", "unipool_182m", 1, 2),     MadeRun("runs/a-2", "unipool_182m", 2, 3),
      MadeRun("runs/a-3", "unipool_182m", 3, 4, 37), MadeRun("runs/b-3", "dense_182m", 3, 4.8),
      MadeRun("runs/b-1", "dense_182m", 1, 2.5),     MadeRun("runs/b-2", "dense_182m", 2, 3.5)};
  const Comparison comparison = Compare(runs);
  EXPECT_EQ(comparison.step, 37);
  EXPECT_EQ(comparison.valid_step, 30);
  ASSERT_EQ(comparison.groups.size(), 2u);
  const RunGroup &a = comparison.groups[0], &b = comparison.groups[1];
  EXPECT_EQ(a.name, "runs/a-*");
  EXPECT_EQ(b.name, "runs/b-*");
  EXPECT_EQ(b.runs[0]->path, "runs/b-1");
  EXPECT_FALSE(a.loss_difference);
  EXPECT_NEAR(b.loss_difference->mean, 0.6, 1e-12);
  EXPECT_NEAR(*b.loss_difference->error, 0.1, 1e-12);
  EXPECT_EQ(b.loss_difference->count, 3);
  EXPECT_NEAR(b.valid_difference->mean, 0.6, 1e-12);
  EXPECT_NEAR(a.valid_loss->mean, 4.2, 1e-12);
  EXPECT_NEAR(*a.balance, 1.5, 1e-12);
  EXPECT_FALSE(b.balance) << "a dense model has no pool";
  EXPECT_EQ(a.tokens_per_second, 3000);
  EXPECT_EQ(a.total, 777'898'764);
  const auto sharing = std::find_if(b.settings.begin(), b.settings.end(),
                                    [](const SettingDifference& d) { return d.path == "moe.sharing"; });
  ASSERT_NE(sharing, b.settings.end());
  EXPECT_EQ(sharing->one, "GLOBAL") << "of the first group";
  EXPECT_EQ(sharing->other, "DENSE");
  EXPECT_TRUE(a.settings.empty());
  EXPECT_TRUE(b.notes.empty());
  ASSERT_EQ(comparison.rows.size(), 3u);
  EXPECT_EQ(comparison.rows[0].step, 10);
  EXPECT_EQ(comparison.rows[2].step, 30);
  EXPECT_NEAR(comparison.rows[1].differences[0]->mean, 0.6, 1e-12);
}

TEST(RunComparison, SaysWhatWeakensIt) {
  std::vector<ComparedRun> runs = {MadeRun("a", "unipool_182m", 1, 2), MadeRun("b", "dense_182m", 1, 3),
                                   MadeRun("c", "dense_182m", 5, 3)};
  EXPECT_EQ(Compare(runs).groups[1].name, "b and 1 more");
  EXPECT_THAT(
      ComparisonText(Compare(runs), false),
      HasSubstr("note: b and 1 more: seeds without a partner: 5;\n      one common seed tells no error"));
  runs.erase(runs.begin() + 1);
  EXPECT_FALSE(Compare(runs).groups[1].loss_difference);
  EXPECT_THAT(ComparisonText(Compare(runs), false), HasSubstr("no seed is in both groups"));
  runs[0].earlier = {.step = 4, .words = "had other settings at step 4: train.lr 1 (now 2)"};
  EXPECT_THAT(ComparisonText(Compare(runs), false), HasSubstr("\nnote: a: had other settings at step 4"))
      << "of the first group too";
}

TEST(RunComparison, SubtractsNoLossesOfOtherTokensOrTexts) {
  std::vector<ComparedRun> runs = {MadeRun("a", "unipool_182m", 1, 2), MadeRun("b", "dense_182m", 1, 3)};
  ASSERT_TRUE(Compare(runs).groups[1].loss_difference);
  runs[1].texts.valid = {{.name = "v.txt"}};
  Comparison comparison = Compare(runs);
  EXPECT_TRUE(comparison.groups[1].loss_difference);
  EXPECT_FALSE(comparison.groups[1].valid_difference);
  EXPECT_FALSE(comparison.rows[0].differences[0]) << "the rows are of validations";
  runs[1].config.mutable_model()->set_vocab(256);
  comparison = Compare(runs);
  EXPECT_FALSE(comparison.groups[1].loss_difference);
  EXPECT_THAT(ComparisonText(comparison, false), testing::ContainsRegex("\nb +- +-\n"));
  EXPECT_TRUE(ComparisonJson(comparison)["groups"][1]["difference"]["loss"].is_null());
  EXPECT_THAT(ComparisonJson(comparison)["groups"][1]["note"].get<std::string>(),
              HasSubstr("its tokens are others"));
}

TEST(RunComparison, NatsAByteStandInForOtherTokens) {
  std::vector<ComparedRun> runs = {MadeRun("a", "unipool_182m", 1, 2), MadeRun("b", "dense_182m", 1, 3)};
  runs[0].series["valid_loss_per_byte"] = {{40, 1.}};
  runs[1].series["valid_loss_per_byte"] = {{40, 1.25}};
  EXPECT_FALSE(Compare(runs).groups[1].per_byte_difference) << "the tokens are the same";
  EXPECT_THAT(ComparisonText(Compare(runs), false), testing::Not(HasSubstr("nats/byte")));
  runs[0].texts.tokenizer = "bytes";
  runs[1].texts.tokenizer = "gpt2, 50257 tokens, 91f5";
  const Comparison comparison = Compare(runs);
  EXPECT_FALSE(comparison.groups[1].valid_difference);
  EXPECT_DOUBLE_EQ(comparison.groups[1].per_byte_difference->mean, 0.25);
  EXPECT_THAT(ComparisonText(comparison, false), testing::ContainsRegex("\nb +- +- +\\+0.2500\n"));
  EXPECT_DOUBLE_EQ(ComparisonJson(comparison)["groups"][1]["difference"]["valid_loss_per_byte"]["mean"],
                   0.25);
}

TEST(RunComparison, GoingBackMakesNoOtherGroup) {
  std::vector<ComparedRun> runs = {MadeRun("a", "unipool_182m", 1, 2), MadeRun("a2", "unipool_182m", 2, 2),
                                   MadeRun("b", "dense_182m", 1, 3)};
  runs[1].config.mutable_train()->set_resume_step(4);
  EXPECT_EQ(Compare(runs).groups.size(), 2u);
}

TEST(RunComparison, NamesAreCutBetweenCharacters) {
  const std::vector<ComparedRun> runs = {MadeRun("r\u00e4", "unipool_182m", 1, 2),
                                         MadeRun("r\u00f6", "unipool_182m", 2, 2),
                                         MadeRun("b", "dense_182m", 1, 3)};
  EXPECT_EQ(Compare(runs).groups[0].name, "r*") << "both letters begin with the same byte";
}

TEST(RunComparison, RefusesWhatCannotBeCompared) {
  EXPECT_THAT(ProblemOf({}), HasSubstr("takes two runs or more"));
  EXPECT_THAT(ProblemOf({MadeRun("a", "unipool_182m", 1, 2), MadeRun("b", "unipool_182m", 2, 2)}),
              HasSubstr("differ in train.seed alone"));
  EXPECT_THAT(ProblemOf({MadeRun("a", "unipool_182m", 1, 2), MadeRun("b", "unipool_182m", 1, 2),
                         MadeRun("c", "dense_182m", 1, 2)}),
              HasSubstr("a and b have the same settings and train.seed (1)"));
}

TEST(RunComparison, TextAndJsonSayTheSame) {
  const std::vector<ComparedRun> runs = {
      MadeRun("a-1", "unipool_182m", 1, 2), MadeRun("a-2", "unipool_182m", 2, 2),
      MadeRun("b-1", "dense_182m", 1, 2.5), MadeRun("b-2", "dense_182m", 2, 2.7)};
  const Comparison comparison = Compare(runs);
  const std::string text = ComparisonText(comparison, false);
  EXPECT_THAT(text, HasSubstr("a-*    1,2      777.9M"));
  EXPECT_THAT(text, HasSubstr("b-*       +0.6000 +- 0.1000  +0.6000 +- 0.1000\n"));
  EXPECT_THAT(ComparisonText(comparison, true), HasSubstr("+0.6000 \u00b1 0.1000"));
  EXPECT_THAT(text, testing::ContainsRegex("settings that differ +a-\\* +b-\\*\n"));
  EXPECT_THAT(text, testing::ContainsRegex("\nmoe.sharing +GLOBAL +DENSE\n"));
  const nlohmann::json json = ComparisonJson(comparison);
  EXPECT_NEAR(json["groups"][1]["difference"]["loss"]["mean"].get<double>(), 0.6, 1e-12);
  EXPECT_NEAR(json["groups"][1]["difference"]["loss"]["error"].get<double>(), 0.1, 1e-12);
  EXPECT_TRUE(json["groups"][0]["difference"]["loss"].is_null());
  EXPECT_EQ(json["groups"][0]["runs"][1], nlohmann::json({{"run", "a-2"}, {"seed", 2}}));
  EXPECT_EQ(json["groups"][1]["settings"]["moe.sharing"],
            nlohmann::json({{"first", "GLOBAL"}, {"this", "DENSE"}}));
  EXPECT_EQ(json["step"], 40);
  EXPECT_EQ(json["by_step"].size(), 4u);
}

}  // namespace
}  // namespace unipool
