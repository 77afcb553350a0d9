// A task's items through the model.
#pragma once

#include <vector>

#include "launcher/tasks/row_scorer.h"
#include "launcher/tasks/task_file.h"
#include "launcher/tasks/task_scores.h"
#include "launcher/tokens/tokenizer.h"

namespace unipool {

// The rows of all choices of all items, one item after another. Throws UserError that names file, line and
// choice, see TaskRowOf.
struct TaskRows {
  std::vector<TokenRow> rows;
  std::vector<bool> is_cut;  // by item
};
TaskRows TaskRowsOf(const TaskSource& source, const std::vector<TaskItem>& items, const Tokenizer& tokenizer,
                    int64_t seq_length);

// Scores of each item, the same on all ranks. Collective. Throws UserError, alike on all ranks, where a score
// is no number.
std::vector<ItemScores> ScoreItems(const std::vector<TaskItem>& items, const TaskRows& rows,
                                   RowScorer& scorer);

}  // namespace unipool
