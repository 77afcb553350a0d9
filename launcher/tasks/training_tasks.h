// Tasks that a training run scores at each of its validations (train.eval_tasks).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "launcher/reports/metric_list.h"
#include "launcher/tasks/task_evaluation.h"

namespace unipool {

class TrainingTasks {
 public:
  // Nothing where train.eval_tasks is empty. Reads and encodes the first train.eval_task_items items of each
  // task. Throws UserError as ReadTaskItems and TaskRowsOf, where there are no validations, and where
  // `tokenizer`, that of the data, is null.
  static std::optional<TrainingTasks> Of(const Config& config, const Tokenizer* tokenizer);

  // Scores them with the weights as they are and adds the results to `outcome`. Collective. A score that is
  // no number, of weights that have diverged, is told as such and ends nothing.
  void Evaluate(TrainingEngine& engine, Communicator& world, ValidationOutcome& outcome) const;

 private:
  struct Task {
    TaskSource source;
    std::vector<TaskItem> items;
    TaskRows rows;
  };
  std::vector<Task> tasks_;
};

}  // namespace unipool
