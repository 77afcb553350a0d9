// What `eval --tasks` tells.
#pragma once

#include <string>
#include <vector>

#include "launcher/tasks/task_evaluation.h"

namespace unipool {

struct TaskReport {
  std::string checkpoint;
  std::vector<TaskFigures> tasks;
  double seconds = 0;     // of scoring, without reading and encoding
  int64_t num_items = 0;  // of all tasks
};

std::string TaskReportText(const TaskReport& report);
// In the shape of lm-evaluation-harness's results file: "results" by task with "acc,none" and
// "acc_stderr,none", "n-samples", "versions". Ours besides: "chance,none", "contexts_cut", "checkpoint",
// "items_per_second".
std::string TaskReportJson(const TaskReport& report);

// A line of --log_samples.
std::string SampleLine(const TaskSource& source, int64_t doc_id, const TaskItem& item,
                       const ItemScores& scores);

}  // namespace unipool
