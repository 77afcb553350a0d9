#include "launcher/tasks/task_file.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "launcher/tokens/tokenize_input.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kMostProblems = 3;

std::string Unpacked(const std::string& name) {
  for (const std::string packed : {".gz", ".zst", ".bz2", ".xz"}) {
    if (name.ends_with(packed)) return name.substr(0, name.size() - packed.size());
  }
  return name;
}

bool IsFileOf(const std::string& file, const std::string& task) {
  const std::string name = Unpacked(file);
  return name.starts_with(task) && name.ends_with(".jsonl") &&
         std::string_view("-_.").find(name[task.size()]) != std::string_view::npos;
}

std::string FileIn(const std::string& folder, const TaskInfo& task) {
  std::vector<std::string> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!IsFileOf(name, task.name) && !IsFileOf(name, task.harness_name)) continue;
    if (const std::string plain = Unpacked(name);
        plain == std::string(task.name) + ".jsonl" || plain == std::string(task.harness_name) + ".jsonl")
      return entry.path().string();
    found.push_back(entry.path().string());
  }
  if (error) throw UserError(folder + ": cannot be read: " + error.message());
  std::sort(found.begin(), found.end());
  if (found.size() == 1) return found[0];
  if (found.empty())
    throw UserError(Format("%s: has no file %s.jsonl or %s-*.jsonl", folder, task.name, task.name));
  throw UserError(Format("%s: has several files for the task %s, %s and %s; name one: %s=FILE", folder,
                         task.name, found[0], found[1], task.name));
}

TaskSource SourceOf(const std::string& entry, const std::string& folder) {
  const size_t equals = entry.find('=');
  const TaskInfo& task = TaskNamed(entry.substr(0, equals));
  std::string path = equals == std::string::npos ? folder : entry.substr(equals + 1);
  if (path.empty()) {
    throw UserError(
        Format("task %s: has no file; write %s=FILE (JSON lines), or name a folder with --task_data",
               task.name, task.name));
  }
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) path = FileIn(path, task);
  if (!fs::exists(path, ignored)) throw UserError(Format("task %s: %s: does not exist", task.name, path));
  return {.task = &task, .path = path};
}

TaskItem ItemOf(std::string_view line, const TaskInfo& task) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) {
    std::string text;
    ExtractText(line, "text", text);  // says where it is no JSON
    throw UserError("is not JSON");
  }
  if (!object.is_object()) throw UserError("is no JSON object");
  return task.read(object);
}

}  // namespace

std::vector<TaskSource> TaskSourcesOf(const std::vector<std::string>& entries, const std::string& folder) {
  std::vector<TaskSource> sources;
  Problems problems;
  for (const std::string& entry : entries) {
    try {
      const TaskSource source = SourceOf(entry, folder);
      for (const TaskSource& other : sources) {
        if (other.task == source.task)
          throw UserError(Format("task %s: is named twice; its results have one name", source.task->name));
      }
      sources.push_back(source);
    } catch (const UserError& error) {
      problems.Add(error.what());
    }
  }
  problems.ThrowIfAny();
  return sources;
}

TaskItems ReadTaskItems(const TaskSource& source, int64_t limit) {
  TaskItems found;
  std::vector<std::string> problems;
  LineReader reader({source.path}, kChunkBytes);
  LineChunk chunk;
  while (problems.size() < kMostProblems && reader.Next(chunk)) {
    std::string_view rest = chunk.text;
    for (int64_t line = chunk.first_line; !rest.empty() && problems.size() < kMostProblems; ++line) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view content = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (content.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      ++found.num_lines;
      if (limit > 0 && static_cast<int64_t>(found.items.size()) == limit) continue;
      try {
        found.items.push_back(ItemOf(content, *source.task));
        found.items.back().line = line;
      } catch (const UserError& error) {
        problems.push_back(
            Format("%s, line %d: %s (task %s)", source.path, line, error.what(), source.task->name));
      }
    }
  }
  if (!problems.empty()) throw UserError(problems);
  if (found.items.empty())
    throw UserError(Format("%s: has no line (task %s)", source.path, source.task->name));
  return found;
}

}  // namespace unipool
