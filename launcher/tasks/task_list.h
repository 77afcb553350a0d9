// The tasks that `eval --tasks` knows: which fields a line has, what is asked, how it is scored. Each follows
// lm-evaluation-harness's task of the same name, without examples in the context (TASKS.md).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace unipool {

// One of the texts whose likelihoods are compared.
struct TaskChoice {
  std::string context, continuation;
  std::string text;  // the choice alone, whose length acc_norm divides by
};

struct TaskItem {
  std::vector<TaskChoice> choices;  // one where there is nothing to choose (LAMBADA)
  int64_t gold = 0;                 // index of the right one
  int64_t line = 0;                 // of the file, from 1
};

struct TaskInfo {
  const char* name;
  const char* harness_name;  // also taken
  bool has_norm;             // acc_norm is one of its metrics
  // Throws UserError, without file and line, which the caller knows.
  TaskItem (*read)(const nlohmann::json& line);
};
const std::vector<TaskInfo>& AllTasks();

// By either name. Throws UserError that names all tasks.
const TaskInfo& TaskNamed(const std::string& name);

}  // namespace unipool
