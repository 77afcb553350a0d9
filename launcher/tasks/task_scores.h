// From likelihoods to the numbers that are published, as lm-evaluation-harness counts them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/tasks/task_list.h"

namespace unipool {

// What the model says of one item.
struct ItemScores {
  std::vector<double> log_probs;  // of each choice: sum over its tokens, nats
  std::vector<bool> is_greedy;    // each of its tokens was the likeliest
  bool is_cut = false;            // a context was longer than the model
};

// The choice with the largest sum, and with the largest sum per character of the choice; of equals the first.
struct ItemPicks {
  int64_t best = 0, best_norm = 0;
};
ItemPicks PicksOf(const TaskItem& item, const ItemScores& scores);

// Mean of an item's number and its standard error: sample deviation / sqrt(n), not a number for one item.
struct Estimate {
  double value = 0, stderr_of_mean = 0;
};
Estimate MeanOf(const std::vector<double>& numbers);

struct TaskFigures {
  std::string task;
  int64_t num_items = 0, num_lines = 0;  // evaluated; of the file
  int64_t num_cut = 0;                   // items with a context that was longer than the model
  Estimate acc;
  std::optional<Estimate> acc_norm;
  std::optional<double> chance;        // of acc where an item has several choices: mean of 1 / choices
  std::optional<Estimate> perplexity;  // where it has one: exp of the mean of -log_prob

  // acc, and acc_norm if there is one, are within two standard errors of chance.
  bool IsNoBetterThanChance() const;
};
TaskFigures FiguresOf(const TaskInfo& task, const std::vector<TaskItem>& items,
                      const std::vector<ItemScores>& scores);

}  // namespace unipool
