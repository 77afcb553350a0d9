// Numbers by hand.
#include "launcher/tasks/task_scores.h"

#include <gtest/gtest.h>

#include <cmath>

namespace unipool {
namespace {

TaskItem Item(const std::vector<std::string>& choices, int64_t gold) {
  TaskItem item{.gold = gold};
  for (const std::string& choice : choices)
    item.choices.push_back({.continuation = " " + choice, .text = choice});
  return item;
}

TEST(TaskScores, SumsAndSumsPerCharacterChooseDifferently) {
  // -3 / 3 = -1, -4 / 5 = -0.8, -6 / 10 = -0.6
  const ItemPicks picks = PicksOf(Item({"abc", "abcde", "abcdefghij"}, 0), {.log_probs = {-3, -4, -6}});
  EXPECT_EQ(picks.best, 0);
  EXPECT_EQ(picks.best_norm, 2);
  // Characters, not bytes: -4 / 2 = -2 against -3.5 / 2; by bytes it would be -4 / 4 = -1 and the first.
  EXPECT_EQ(PicksOf(Item({"\u00e9\u00e8", "ab"}, 0), {.log_probs = {-4, -3.5}}).best_norm, 1);
  // Of equals the first.
  const ItemPicks equal = PicksOf(Item({"ab", "cd"}, 0), {.log_probs = {-2, -2}});
  EXPECT_EQ(equal.best, 0);
  EXPECT_EQ(equal.best_norm, 0);
}

TEST(TaskScores, MeanAndItsError) {
  const Estimate estimate = MeanOf({1, 0, 0, 1, 1});
  EXPECT_DOUBLE_EQ(estimate.value, 0.6);
  EXPECT_DOUBLE_EQ(estimate.stderr_of_mean, std::sqrt(1.2 / 4) / std::sqrt(5.0));
  EXPECT_TRUE(std::isnan(MeanOf({1}).stderr_of_mean));
}

TEST(TaskScores, Figures) {
  const std::vector<TaskItem> items{Item({"abc", "abcde"}, 0), Item({"ab", "cd", "ef", "gh"}, 2)};
  const TaskFigures figures = FiguresOf(
      TaskNamed("piqa"), items, {{.log_probs = {-3, -4}, .is_cut = true}, {.log_probs = {-9, -8, -1, -2}}});
  EXPECT_EQ(figures.num_items, 2);
  EXPECT_EQ(figures.num_cut, 1);
  EXPECT_EQ(figures.acc.value, 1);
  EXPECT_EQ(figures.acc_norm->value, 0.5);
  EXPECT_DOUBLE_EQ(*figures.chance, (0.5 + 0.25) / 2);
  EXPECT_FALSE(figures.perplexity);
  EXPECT_FALSE(figures.IsNoBetterThanChance());
  EXPECT_FALSE(FiguresOf(TaskNamed("winogrande"), {items[0]}, {{.log_probs = {-3, -4}}}).acc_norm);
}

TEST(TaskScores, LambadasPerplexity) {
  const std::vector<TaskItem> items{Item({"a"}, 0), Item({"b"}, 0)};
  const TaskFigures figures =
      FiguresOf(TaskNamed("lambada"), items,
                {{.log_probs = {-1}, .is_greedy = {true}}, {.log_probs = {-3}, .is_greedy = {false}}});
  EXPECT_EQ(figures.acc.value, 0.5);
  EXPECT_FALSE(figures.chance);
  EXPECT_DOUBLE_EQ(figures.perplexity->value, std::exp(2.0));
  EXPECT_DOUBLE_EQ(figures.perplexity->stderr_of_mean, std::exp(2.0));  // sqrt(2) / sqrt(2) in the exponent
}

TEST(TaskScores, WhatChanceCouldHaveDone) {
  TaskFigures figures{.acc = {0.27, 0.011}, .chance = 0.25};
  EXPECT_TRUE(figures.IsNoBetterThanChance());
  figures.acc_norm = Estimate{0.29, 0.011};
  EXPECT_FALSE(figures.IsNoBetterThanChance());
  figures.acc_norm.reset();
  figures.acc.value = 0.273;
  EXPECT_FALSE(figures.IsNoBetterThanChance());
  figures.chance.reset();
  EXPECT_FALSE(figures.IsNoBetterThanChance());
}

}  // namespace
}  // namespace unipool
