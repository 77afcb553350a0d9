#include "launcher/tasks/task_scores.h"

#include <algorithm>
#include <cmath>

#include "launcher/tasks/python_text.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

bool IsNear(const Estimate& estimate, double chance) {
  return !(estimate.value - chance > 2 * estimate.stderr_of_mean);
}

}  // namespace

ItemPicks PicksOf(const TaskItem& item, const ItemScores& scores) {
  ItemPicks picks;
  const auto per_character = [&](int64_t i) {
    return scores.log_probs[i] / static_cast<double>(NumCharacters(item.choices[i].text));
  };
  for (int64_t i = 1; i < static_cast<int64_t>(item.choices.size()); ++i) {
    if (scores.log_probs[i] > scores.log_probs[picks.best]) picks.best = i;
    if (per_character(i) > per_character(picks.best_norm)) picks.best_norm = i;
  }
  return picks;
}

Estimate MeanOf(const std::vector<double>& numbers) {
  const auto n = static_cast<double>(numbers.size());
  double sum = 0, squares = 0;
  for (const double x : numbers) sum += x;
  for (const double x : numbers) squares += (x - sum / n) * (x - sum / n);
  return {.value = sum / n, .stderr_of_mean = std::sqrt(squares / (n - 1)) / std::sqrt(n)};
}

bool TaskFigures::IsNoBetterThanChance() const {
  return chance && IsNear(acc, *chance) && (!acc_norm || IsNear(*acc_norm, *chance));
}

TaskFigures FiguresOf(const TaskInfo& task, const std::vector<TaskItem>& items,
                      const std::vector<ItemScores>& scores) {
  CHECK_EQ(items.size(), scores.size());
  TaskFigures figures{.task = task.name, .num_items = static_cast<int64_t>(items.size())};
  std::vector<double> acc, acc_norm, log_probs, chance;
  for (size_t i = 0; i < items.size(); ++i) {
    const TaskItem& item = items[i];
    figures.num_cut += scores[i].is_cut ? 1 : 0;
    if (item.choices.size() == 1) {
      acc.push_back(scores[i].is_greedy[0] ? 1 : 0);
      log_probs.push_back(scores[i].log_probs[0]);
      continue;
    }
    const ItemPicks picks = PicksOf(item, scores[i]);
    acc.push_back(picks.best == item.gold ? 1 : 0);
    acc_norm.push_back(picks.best_norm == item.gold ? 1 : 0);
    chance.push_back(1 / static_cast<double>(item.choices.size()));
  }
  figures.acc = MeanOf(acc);
  if (!chance.empty()) figures.chance = MeanOf(chance).value;
  if (task.has_norm) figures.acc_norm = MeanOf(acc_norm);
  if (!log_probs.empty()) {  // the error of a mean goes through exp as its slope
    const Estimate mean = MeanOf(log_probs);
    const double perplexity = std::exp(-mean.value);
    figures.perplexity = {.value = perplexity, .stderr_of_mean = perplexity * mean.stderr_of_mean};
  }
  return figures;
}

}  // namespace unipool
