// Figures of a table small enough to be counted by hand, and that their text keeps to 80 columns.
#include "launcher/experts/expert_figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Layer 0 uses expert 1 (8 times) and 3 (8), layer 1 expert 3 (12), 0 (3) and 2 (1).
ExpertTables Example() {
  return {.layers = 2,
          .experts = 4,
          .tokens = 16,
          .counts = {0, 8, 0, 8, 3, 0, 1, 12},
          .mass = {0, 4, 0, 2, 1, 0, 0.5, 6}};
}

TEST(ExpertFigures, OfALayer) {
  const std::vector<LayerUse> uses = UseOfLayers(Example());
  EXPECT_DOUBLE_EQ(uses[0].entropy, 1);
  EXPECT_DOUBLE_EQ(uses[0].effective, 2);
  EXPECT_EQ(uses[0].used, 2);
  EXPECT_DOUBLE_EQ(uses[0].top_share, 1);
  EXPECT_EQ(uses[1].used, 3);
  const double expected =
      -(0.75 * std::log2(0.75) + 3 / 16. * std::log2(3 / 16.) + 1 / 16. * std::log2(1 / 16.));
  EXPECT_NEAR(uses[1].entropy, expected, 1e-12);
}

TEST(ExpertFigures, TopSetsAndWhatLayersShare) {
  EXPECT_THAT(TopSet(Example(), 0, 1), ElementsAre(1));  // of equal ones the first
  EXPECT_THAT(TopSet(Example(), 0, 4), ElementsAre(1, 3));
  EXPECT_THAT(TopSet(Example(), 1, 2), ElementsAre(3, 0));
  EXPECT_DOUBLE_EQ(MeanJaccard(Example(), 16), 1 / 4.);
  EXPECT_DOUBLE_EQ(MeanJaccard(Example(), 1), 0);
  EXPECT_DOUBLE_EQ(MeanJaccard({.layers = 1, .experts = 2, .counts = {1, 1}, .mass = {1, 1}}, 2), 0);
  const std::vector<TopUnion> unions = TopUnions(Example());
  ASSERT_EQ(unions.size(), 3u);  // 1, 2, 3
  EXPECT_EQ(unions[0].size, 2);
  EXPECT_DOUBLE_EQ(unions[0].of_pool, 0.5);
  EXPECT_DOUBLE_EQ(unions[0].saturation, 1);
  EXPECT_DOUBLE_EQ(unions[0].coverage, (0.5 + 0.75) / 2);
  EXPECT_EQ(unions[1].size, 3);
  EXPECT_DOUBLE_EQ(unions[1].saturation, 0.75);
  EXPECT_EQ(unions[2].size, 4);
}

TEST(ExpertFigures, TheMostImportantComeFirst) {
  ExpertTables tables = Example();
  std::vector<int64_t> order;
  for (const ExpertUseOf& e : RankedExperts(tables)) order.push_back(e.expert);
  EXPECT_THAT(order, ElementsAre(3, 1, 0, 2));  // by mass
  tables.importance = {0, 0, 0, 1, 1, 0, 0, 0};
  tables.ucb = {5, 0, 0, 1, 1, 0, 7, 0};
  const std::vector<ExpertUseOf> ranked = RankedExperts(tables);
  EXPECT_EQ(ranked[0].expert, 2);
  EXPECT_EQ(ranked[1].expert, 0);
  EXPECT_DOUBLE_EQ(ranked[1].ucb, 6);
  EXPECT_EQ(ranked[2].expert, 3);
  EXPECT_EQ(ranked[2].layers, 2);
  EXPECT_DOUBLE_EQ(ranked[2].count, 20);
  EXPECT_DOUBLE_EQ(ranked[2].mass, 8);
}

TEST(ExpertFigures, TextFits80ColumnsAndSaysWhatJsonSays) {
  ExpertReport report{
      .checkpoint = "runs/a/checkpoints/step-7", .split = "valid", .sequences = 3, .loss = 1.25};
  report.tables = {.layers = 48, .experts = 384, .tokens = 123456789};
  const size_t size = 48 * 384;
  report.tables.counts.assign(size, 9876543);
  report.tables.mass.assign(size, 9876543.5);
  report.tables.importance = std::vector<double>(size, 1.25e-3);
  report.tables.ucb = std::vector<double>(size, 1e-3);
  report.tables.margin.assign(48, -12.345);
  report.tables.ahead.assign(48, 1);
  report.experts = RankedExperts(report.tables);
  report.experts[0].loss_without = 12.5;
  const std::string text = ExpertReportText(report);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
  EXPECT_THAT(text, HasSubstr("12.500000 +11.250000"));
  const nlohmann::ordered_json json = ExpertReportJson(report);
  EXPECT_EQ(json["experts"].size(), 384u);
  EXPECT_EQ(json["experts"][0]["loss_without"], 12.5);
  EXPECT_FALSE(json["experts"][1].contains("loss_without"));
  EXPECT_EQ(json["tables"]["importance"].size(), 48u);
  EXPECT_EQ(json["tables"]["importance"][0].size(), 384u);
  EXPECT_EQ(json["layers"][47]["decision_margin"], -12.345);
}

}  // namespace
}  // namespace unipool
