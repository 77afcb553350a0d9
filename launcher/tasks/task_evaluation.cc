#include "launcher/tasks/task_evaluation.h"

#include <cmath>

#include "launcher/tasks/task_row.h"
#include "runtime/errors.h"

namespace unipool {

TaskRows TaskRowsOf(const TaskSource& source, const std::vector<TaskItem>& items, const Tokenizer& tokenizer,
                    int64_t seq_length) {
  TaskRows rows;
  for (const TaskItem& item : items) {
    rows.is_cut.push_back(false);
    for (const TaskChoice& choice : item.choices) {
      try {
        TaskRow row = TaskRowOf(choice.context, choice.continuation, tokenizer, seq_length);
        if (row.num_cut > 0) rows.is_cut.back() = true;
        rows.rows.push_back(std::move(row.row));
      } catch (const UserError& error) {
        throw UserError(
            Format("%s, line %d: %s (task %s)", source.path, item.line, error.what(), source.task->name));
      }
    }
  }
  return rows;
}

std::vector<ItemScores> ScoreItems(const std::vector<TaskItem>& items, const TaskRows& rows,
                                   RowScorer& scorer) {
  const std::vector<std::vector<PositionScores>> positions = scorer.Score(rows.rows);
  std::vector<ItemScores> scores;
  size_t next = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    ItemScores item{.is_cut = rows.is_cut[i]};
    for (size_t choice = 0; choice < items[i].choices.size(); ++choice) {
      double sum = 0;
      bool is_greedy = true;
      for (const PositionScores& position : positions[next++]) {
        sum += position.target.log_prob;
        is_greedy = is_greedy && position.top[0].token == position.target.token;
      }
      if (!std::isfinite(sum)) {
        throw UserError(
            "the model's answers are no numbers: these weights have diverged; evaluate an earlier "
            "checkpoint");
      }
      item.log_probs.push_back(sum);
      item.is_greedy.push_back(is_greedy);
    }
    scores.push_back(std::move(item));
  }
  return scores;
}

}  // namespace unipool
