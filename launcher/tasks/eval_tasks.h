// `eval --tasks`.
#pragma once

#include <string>

#include "launcher/command_line.h"

namespace unipool {

// Flags of eval.cc.
struct EvalTasksOptions {
  std::string tasks;    // --tasks
  std::string folder;   // --task_data
  int64_t limit = 0;    // --limit: items of each task; 0: all
  std::string samples;  // --log_samples: a file, or ""
};

// Returns the process's exit code. Throws UserError.
int EvalTasks(const CommandLine& command_line, const EvalTasksOptions& options);

}  // namespace unipool
