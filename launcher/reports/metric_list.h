// The metrics of a run. Each is declared once, in metric_list.cc: its name, unit, meaning, in which lines it
// is, and where its value comes from. From that list follow the lines of metrics.jsonl, what `unipool
// metrics` says, the table in launcher/reports/METRICS.md (a test compares it) and what readers may expect.
//
// To add a metric:
//   1. launcher/reports/metric_list.cc: its entry.
//   2. Its value: a field of StepReport (models/training_engine.h), of LoadReport (models/expert_use.h) or of
//      StepOutcome (here, filled in launcher/trainer.cc).
//   3. A number that ranks add up: a field of StepSums (models/step_sums.h), also in ForEach
//      (models/step_sums.cc), and tests/models/step_sums_world_test.cc.
//   4. launcher/reports/METRICS.md: the table that `unipool metrics` prints.
//   5. tests/launcher/example_outcome.h: a value of its own, and tests/launcher/metric_list_test.cc: that
//      value. An optional metric also gets a value in the test that counts keys.
// Tests fail until 4 is done, and for an optional metric until the last of 5.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "models/training_engine.h"
#include "runtime/buffer.h"

namespace unipool {

// What a training step gave.
struct StepOutcome {
  int64_t step = 0;         // 1 = the first optimizer update
  int64_t tokens = 0;       // trained on so far, over all ranks
  int64_t step_tokens = 0;  // trained on in this step, over all ranks
  double lr = 0;
  double seconds = 0;  // of the step, by this rank's clock
  StepReport report;
  std::optional<double> slot_imbalance;   // where several ranks share a pool
  std::optional<double> virtual_seconds;  // of the step, where a cluster is emulated

  double TokensPerSecond() const { return static_cast<double>(step_tokens) / seconds; }
  // Balancing loss / its value at perfect balance. Not a number where that value is not known.
  double PoolLossOverBalance() const;
};

// A number of one of several things that a run names: of a source of a blend, of a task.
struct NamedNumber {
  std::string name;
  double value = 0;
};

// What a validation gave.
struct ValidationOutcome {
  int64_t step = 0;                                                   // updates done before it
  double loss = 0;                                                    // mean cross entropy of a token, nats
  std::vector<NamedNumber> by_source;                                 // of a blend: loss
  std::optional<double> coverage_min, guard_excess;                   // of moe.lock, from the freeze on
  double bytes_per_token = 0;                                         // of text (text_bytes.h); 0: not known
  std::vector<NamedNumber> task_acc, task_acc_norm, task_perplexity;  // of train.eval_tasks
};

// std::monostate: the metric is not in this line.
using MetricValue = std::variant<std::monostate, int64_t, double, MemoryParts, std::vector<NamedNumber>>;

// Whether equal runs on equal layouts give the same bits.
enum class Repeats { kExactly, kMeasured };

template <class Outcome>
struct Metric {
  const char* name;   // key in metrics.jsonl
  const char* unit;   // "": a count or a ratio
  const char* lines;  // which lines have it
  Repeats repeats;
  const char* meaning;
  MetricValue (*value)(const Outcome& outcome);
};
const std::vector<Metric<StepOutcome>>& StepMetrics();
const std::vector<Metric<ValidationOutcome>>& ValidationMetrics();

// One JSON object in a line, without the newline. Keys stand in the order of the list. Numbers read back bit
// for bit; a number that is not finite becomes null.
std::string StepLine(const StepOutcome& outcome);
std::string ValidationLine(const ValidationOutcome& outcome);

// A number with its name, for programs that draw curves.
struct Scalar {
  std::string name;  // "loss"; of a metric with parts "peak_memory/weights"
  double value = 0;
};
// The numbers of a line but its step.
std::vector<Scalar> StepScalars(const StepOutcome& outcome);
std::vector<Scalar> ValidationScalars(const ValidationOutcome& outcome);

// The list as a table in Markdown, as it stands in launcher/reports/METRICS.md, and as a JSON array of
// {name, unit, lines, repeats, meaning}, for programs that read metrics.jsonl.
std::string MetricsTable();
std::string MetricsJson();

}  // namespace unipool
