#include "launcher/tasks/training_tasks.h"

#include <limits>

#include "runtime/errors.h"

namespace unipool {

std::optional<TrainingTasks> TrainingTasks::Of(const Config& config, const Tokenizer* tokenizer) {
  const TrainConfig& train = config.train();
  if (train.eval_tasks().empty()) return {};
  if (train.eval_every() < 1)
    throw UserError("train.eval_tasks: validations score them, and there are none; set train.eval_every");
  if (train.eval_task_items() < 1)
    throw UserError(Format("train.eval_task_items: is %d; must be 1 or more", train.eval_task_items()));
  if (!tokenizer) {
    throw UserError(
        "train.eval_tasks: the data has no tokenizer.json beside it, so texts cannot be encoded; tokenize it "
        "anew, or leave the field empty");
  }
  std::optional<TrainingTasks> tasks(std::in_place);
  const std::vector<std::string> entries(train.eval_tasks().begin(), train.eval_tasks().end());
  for (const TaskSource& source : TaskSourcesOf(entries, "")) {
    TaskItems items = ReadTaskItems(source, train.eval_task_items());
    TaskRows rows = TaskRowsOf(source, items.items, *tokenizer, config.model().seq_length());
    tasks->tasks_.push_back({.source = source, .items = std::move(items.items), .rows = std::move(rows)});
  }
  return tasks;
}

void TrainingTasks::Evaluate(TrainingEngine& engine, Communicator& world, ValidationOutcome& outcome) const {
  RowScorer scorer(engine, world, /*num_top=*/1);
  for (const Task& task : tasks_) {
    const char* name = task.source.task->name;
    try {
      const TaskFigures figures =
          FiguresOf(*task.source.task, task.items, ScoreItems(task.items, task.rows, scorer));
      outcome.task_acc.push_back({name, figures.acc.value});
      if (figures.acc_norm) outcome.task_acc_norm.push_back({name, figures.acc_norm->value});
      if (figures.perplexity) outcome.task_perplexity.push_back({name, figures.perplexity->value});
    } catch (const UserError&) {  // alike on all ranks
      outcome.task_acc.push_back({name, std::numeric_limits<double>::quiet_NaN()});
    }
  }
}

}  // namespace unipool
