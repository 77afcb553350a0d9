#include "launcher/tasks/eval_tasks.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "launcher/config.h"
#include "launcher/inference.h"
#include "launcher/model_tokenizer.h"
#include "launcher/reports/own_file.h"
#include "launcher/standard_output.h"
#include "launcher/start_check.h"
#include "launcher/tasks/task_report.h"
#include "launcher/text_list.h"
#include "launcher/world_options.h"
#include "runtime/random.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;

struct Task {
  TaskSource source;
  TaskItems items;
  TaskRows rows;
};

void CheckSamplesPath(const std::string& path) {
  if (path.empty()) return;
  std::error_code ignored;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder, ignored))
    throw UserError(Format("--log_samples=%s: there is no folder %s", path, folder.string()));
  if (std::filesystem::is_directory(path, ignored))
    throw UserError(Format("--log_samples=%s: is a folder; name a file", path));
}

void WriteSamples(const std::string& path, const std::string& text) {
  const auto is_own = [](std::string_view begin) { return begin.starts_with("{\"task\":"); };
  WriteOwnFile({.name = "file of task samples", .is_own = is_own}, path, text);
}

// Ranks of an MPI job read the same items.
void CheckSameRows(const std::vector<Task>& tasks, World& world) {
  if (!world.is_mpi || world.size() == 1) return;
  uint64_t print = 0;
  for (const Task& task : tasks) {
    for (const TokenRow& row : task.rows.rows) {
      for (const int32_t token : row.tokens) print = RandomBits(print, token);
      print = RandomBits(print, row.first_target);
    }
  }
  const std::vector<std::string> all =
      world.communicator->AllGatherText(Format("%x", print), {.operation = "compare tasks"});
  for (int rank = 1; rank < world.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    throw UserError(
        Format("ranks 0 and %d read different tasks: their hosts have other files of these names", rank));
  }
}

std::vector<Task> ReadTasks(const std::vector<TaskSource>& sources, int64_t limit, const Tokenizer& tokenizer,
                            int64_t seq_length) {
  std::vector<Task> tasks;
  Problems problems;
  for (const TaskSource& source : sources) {
    try {
      TaskItems items = ReadTaskItems(source, limit);
      TaskRows rows = TaskRowsOf(source, items.items, tokenizer, seq_length);
      tasks.push_back({.source = source, .items = std::move(items), .rows = std::move(rows)});
    } catch (const UserError& error) {
      for (const std::string& problem : error.problems()) problems.Add(problem);
    }
  }
  problems.ThrowIfAny();
  return tasks;
}

// Items are short: many of them share a microbatch, unless the command line says how many.
void SizeMicroBatch(const CommandLine& line, Config& config) {
  const bool is_given = std::any_of(line.overrides.begin(), line.overrides.end(), [](const auto& entry) {
    return entry.starts_with("train.micro_batch=");
  });
  const bool on_device = config.device() == DeviceType::CUDA;
  const int64_t tokens = on_device ? int64_t{1} << 15 : int64_t{1} << 12;
  if (is_given || config.model().seq_length() < 1) return;
  const int64_t sequences = std::max<int64_t>(tokens / config.model().seq_length(), 1);
  config.mutable_train()->set_micro_batch(static_cast<int32_t>(sequences));
}

}  // namespace

int EvalTasks(const CommandLine& command_line, const EvalTasksOptions& options) {
  const std::vector<TaskSource> sources = TaskSourcesOf(SplitTextList(options.tasks), options.folder);
  if (sources.empty()) throw UserError("--tasks: names no task");
  CheckSamplesPath(options.samples);
  Config config = LoadConfig(command_line);
  SizeMicroBatch(command_line, config);
  const WorldOptions world_options = WorldOptionsOf(config);
  FitToRanks(WorldSize(world_options), config);
  ValidateConfig(config, WorldSize(world_options));
  return RunWorld(world_options, [&](World& world) {
    CheckSameSettings(config, world);
    const std::string checkpoint = FindWeights(command_line, config, world);
    std::vector<Task> tasks;
    RunTogether(*world.communicator, [&] {
      const std::shared_ptr<const Tokenizer> tokenizer = TokenizerOfModel(checkpoint, config);
      CheckTokenizerOfModel(checkpoint, *tokenizer, config);
      tasks = ReadTasks(sources, options.limit, *tokenizer, config.model().seq_length());
    });
    CheckSameRows(tasks, world);
    TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
    LoadForInference(checkpoint, config, world, engine);
    RowScorer scorer(engine, *world.communicator, /*num_top=*/1);
    TaskReport report{.checkpoint = checkpoint};
    std::string samples;
    for (const Task& task : tasks) {
      const Clock::time_point start = Clock::now();
      const std::vector<ItemScores> scores = ScoreItems(task.items.items, task.rows, scorer);
      report.seconds += std::chrono::duration<double>(Clock::now() - start).count();
      TaskFigures figures = FiguresOf(*task.source.task, task.items.items, scores);
      figures.num_lines = task.items.num_lines;
      report.num_items += figures.num_items;
      report.tasks.push_back(figures);
      for (size_t i = 0; i < scores.size() && world.rank() == 0 && !options.samples.empty(); ++i)
        samples += SampleLine(task.source, static_cast<int64_t>(i), task.items.items[i], scores[i]);
    }
    if (world.rank() != 0) return;
    if (!options.samples.empty()) WriteSamples(options.samples, samples);
    PrintResult(command_line.json ? TaskReportJson(report) : TaskReportText(report));
  });
}

}  // namespace unipool
