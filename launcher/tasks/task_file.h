// Which tasks are asked for, and the lines of their files.
#pragma once

#include <string>
#include <vector>

#include "launcher/tasks/task_list.h"

namespace unipool {

struct TaskSource {
  const TaskInfo* task = nullptr;
  std::string path;
};

// Of "NAME=FILE", "NAME=FOLDER" and "NAME", which looks in `folder`. In a folder a task's file is NAME.jsonl,
// or the only one whose name goes on behind NAME with one of "-_." and ends in .jsonl; either may be
// compressed. Throws UserError with all problems at once: no such task, one twice, no file, several.
std::vector<TaskSource> TaskSourcesOf(const std::vector<std::string>& entries, const std::string& folder);

struct TaskItems {
  std::vector<TaskItem> items;
  int64_t num_lines = 0;  // of the file, blank ones left out
};
// The first `limit` items, or all of them where it is 0. Throws UserError with file, line and reason for each
// line that is none, at most three of them; also where there is no item.
TaskItems ReadTaskItems(const TaskSource& source, int64_t limit);

}  // namespace unipool
