#include "launcher/reports/run_comparison.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>

#include "launcher/config.h"
#include "launcher/reports/comparison_notes.h"
#include "launcher/reports/shown_width.h"
#include "models/parameter_count.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr double kShareForMean = 0.1;  // of the steps, the last ones
constexpr int64_t kRows = 5;

using Series = std::vector<std::pair<int64_t, double>>;

const Series& SeriesOf(const ComparedRun& run, const std::string& metric) {
  static const Series kNothing;
  const auto found = run.series.find(metric);
  return found == run.series.end() ? kNothing : found->second;
}

int64_t LastStep(const ComparedRun& run) {
  const Series& loss = SeriesOf(run, "loss");
  return loss.empty() ? 0 : loss.back().first;
}

// What two runs of a group have in common.
std::string GroupKey(const ComparedRun& run) {
  Config config = run.config;
  config.clear_run_dir();
  TrainConfig& train = *config.mutable_train();
  train.clear_seed();
  train.clear_stop_at();
  train.clear_save_every();
  train.clear_save_minutes();
  train.clear_keep_checkpoints();
  train.clear_resume_step();  // what was done again belongs to no step
  return ResolvedConfigText(config);
}

std::string NameOf(const std::vector<const ComparedRun*>& runs) {
  std::string prefix = runs[0]->path;
  if (runs.size() == 1) return prefix;
  for (const ComparedRun* run : runs) {
    size_t same = 0;
    while (same < prefix.size() && same < run->path.size() && prefix[same] == run->path[same]) ++same;
    prefix.resize(same);
  }
  prefix.resize(WholeCharacters(runs[0]->path, prefix.size()));
  if (!prefix.empty()) return prefix + "*";
  return Format("%s and %d more", runs[0]->path.c_str(), static_cast<int64_t>(runs.size()) - 1);
}

// Mean over the last steps up to `step`; nothing where there is no number.
std::optional<double> LateMean(const ComparedRun& run, const std::string& metric, int64_t step) {
  const auto begin = static_cast<int64_t>(std::floor(static_cast<double>(step) * (1 - kShareForMean)));
  double sum = 0;
  int64_t count = 0;
  for (const auto& [at, value] : SeriesOf(run, metric)) {
    if (at <= std::min(begin, step - 1) || at > step || !std::isfinite(value)) continue;
    sum += value;
    ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

std::optional<double> ValueAt(const ComparedRun& run, const std::string& metric, int64_t step) {
  for (const auto& [at, value] : SeriesOf(run, metric)) {
    if (at == step && std::isfinite(value)) return value;
  }
  return std::nullopt;
}

// A number of a run, or nothing.
using Measure = std::function<std::optional<double>(const ComparedRun&)>;

std::optional<Estimate> OverRuns(const RunGroup& group, const Measure& measure) {
  std::vector<double> values;
  for (const ComparedRun* run : group.runs) {
    if (const std::optional<double> value = measure(*run)) values.push_back(*value);
  }
  if (values.empty()) return std::nullopt;
  return EstimateOf(values);
}

std::optional<double> MeanOf(const RunGroup& group, const Measure& measure) {
  const std::optional<Estimate> estimate = OverRuns(group, measure);
  if (!estimate) return std::nullopt;
  return estimate->mean;
}

// Over the seeds that both have.
std::optional<Estimate> Difference(const RunGroup& group, const RunGroup& first, const Measure& measure) {
  std::vector<double> values;
  for (const ComparedRun* run : group.runs) {
    for (const ComparedRun* other : first.runs) {
      if (run->config.train().seed() != other->config.train().seed()) continue;
      const std::optional<double> a = measure(*run), b = measure(*other);
      if (a && b) values.push_back(*a - *b);
    }
  }
  if (values.empty()) return std::nullopt;
  return EstimateOf(values);
}

double MedianSpeed(const RunGroup& group) {
  std::vector<double> speeds;
  for (const ComparedRun* run : group.runs) {
    for (const auto& [step, speed] : SeriesOf(*run, "tokens_per_second")) {
      if (std::isfinite(speed)) speeds.push_back(speed);
    }
  }
  if (speeds.empty()) return 0;
  std::nth_element(speeds.begin(), speeds.begin() + speeds.size() / 2, speeds.end());
  return speeds[speeds.size() / 2];
}

std::vector<RunGroup> GroupsOf(const std::vector<ComparedRun>& runs) {
  std::map<std::string, size_t> numbers;
  std::vector<RunGroup> groups;
  Problems problems;
  for (const ComparedRun& run : runs) {
    const auto [found, is_new] = numbers.try_emplace(GroupKey(run), groups.size());
    if (is_new) groups.emplace_back();
    RunGroup& group = groups[found->second];
    for (const ComparedRun* other : group.runs) {
      if (other->config.train().seed() == run.config.train().seed())
        problems.Add(Format("%s and %s have the same settings and train.seed (%d); name one of them",
                            other->path.c_str(), run.path.c_str(), run.config.train().seed()));
    }
    group.runs.push_back(&run);
  }
  if (groups.size() < 2)
    problems.Add(
        "the runs differ in train.seed alone, if at all: there is nothing to compare; name runs with other "
        "settings too");
  problems.ThrowIfAny();
  return groups;
}

// Steps that all runs have validated.
std::vector<int64_t> CommonValidations(const std::vector<ComparedRun>& runs, int64_t last) {
  std::vector<int64_t> steps;
  for (const auto& [step, value] : SeriesOf(runs[0], "valid_loss")) {
    bool in_all = step <= last;
    for (const ComparedRun& run : runs) in_all = in_all && ValueAt(run, "valid_loss", step).has_value();
    if (in_all) steps.push_back(step);
  }
  return steps;
}

void Add(const std::vector<std::string>& more, std::vector<std::string>& notes) {
  notes.insert(notes.end(), more.begin(), more.end());
}

void FillGroup(const RunGroup& first, const Comparison& comparison, RunGroup& group) {
  std::sort(group.runs.begin(), group.runs.end(), [](const ComparedRun* a, const ComparedRun* b) {
    return a->config.train().seed() < b->config.train().seed();
  });
  group.total = CountParameters(group.runs[0]->config).total();
  group.active = CountActiveParameters(group.runs[0]->config);
  auto late = [&](const char* metric) -> Measure {
    return [=, step = comparison.step](const ComparedRun& run) { return LateMean(run, metric, step); };
  };
  const Measure valid = [step = comparison.valid_step](const ComparedRun& run) {
    return ValueAt(run, "valid_loss", step);
  };
  const Measure per_byte = [step = comparison.valid_step](const ComparedRun& run) {
    return ValueAt(run, "valid_loss_per_byte", step);
  };
  const std::optional<Estimate> loss = OverRuns(group, late("loss"));
  if (!loss) throw UserError(group.name + ": has no loss that is a number before the common step");
  group.loss = *loss;
  group.valid_loss = OverRuns(group, valid);
  group.valid_per_byte = OverRuns(group, per_byte);
  if (group.runs[0]->config.moe().sharing() != Sharing::DENSE) {
    group.balance = MeanOf(group, late("pool_loss_over_balance"));
    group.max_violation = MeanOf(group, late("max_violation"));
    group.dead_experts = MeanOf(group, late("dead_experts"));
  }
  group.tokens_per_second = MedianSpeed(group);
  if (&group == &first) return Add(NotesOf(group), group.notes);
  const Comparability comparability = ComparabilityOf(group, first);
  if (comparability.loss) group.loss_difference = Difference(group, first, late("loss"));
  if (!comparability.same_tokens) group.per_byte_difference = Difference(group, first, per_byte);
  if (comparability.valid_loss) group.valid_difference = Difference(group, first, valid);
  group.settings = ListDifferences(GroupKey(*first.runs[0]), GroupKey(*group.runs[0]));
  for (const auto& notes : {comparability.notes, NotesOf(group), PairNotes(group, first)})
    Add(notes, group.notes);
}

std::vector<Comparison::Row> RowsOf(const Comparison& comparison, const std::vector<int64_t>& validations) {
  std::vector<int64_t> steps = validations;
  if (steps.empty()) {
    for (int64_t i = 1; i <= kRows; ++i) steps.push_back(std::max<int64_t>(1, comparison.step * i / kRows));
    steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  }
  std::vector<Comparison::Row> rows;
  const int64_t count = static_cast<int64_t>(steps.size()), most = std::min(count, kRows);
  for (int64_t i = 1; i <= most; ++i) {
    Comparison::Row row{.step = steps[count * i / most - 1]};
    const Measure measure = [&](const ComparedRun& run) {
      return validations.empty() ? LateMean(run, "loss", row.step) : ValueAt(run, "valid_loss", row.step);
    };
    for (size_t g = 1; g < comparison.groups.size(); ++g) {
      const RunGroup& group = comparison.groups[g];
      const bool is_shown =
          validations.empty() ? group.loss_difference.has_value() : group.valid_difference.has_value();
      row.differences.push_back(is_shown ? Difference(group, comparison.groups[0], measure) : std::nullopt);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::optional<ComparedRun> ReadComparedRun(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored))
    throw UserError(path + ": is a file; give the folder of a run, whose config.txtpb says its settings");
  const RunRecord record(path);
  if (!record.series().contains("loss")) return std::nullopt;
  const std::string settings = record.path() + "/config.txtpb";
  if (!std::filesystem::exists(settings, ignored))
    throw UserError(path +
                    ": has no config.txtpb, so its settings are not known; give the run_dir of `train`");
  ComparedRun run{.path = record.path(),
                  .config = LoadConfig(settings, {}),
                  .series = record.series(),
                  .left_out = record.LeftOut()};
  run.earlier = FindEarlierSettings(run.path, run.config, run.series);
  run.texts = ReadRunTexts(run.path, run.config);
  return run;
}

Estimate EstimateOf(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (double value : values) sum += value;
  Estimate estimate{.mean = sum / count, .count = static_cast<int>(values.size())};
  for (double value : values) squares += (value - estimate.mean) * (value - estimate.mean);
  if (values.size() > 1) estimate.error = std::sqrt(squares / (count - 1) / count);
  return estimate;
}

Comparison Compare(const std::vector<ComparedRun>& runs) {
  if (runs.size() < 2)
    throw UserError("compare: takes two runs or more, for example: unipool compare runs/a runs/b");
  Comparison comparison{.step = std::numeric_limits<int64_t>::max(), .groups = GroupsOf(runs)};
  for (const ComparedRun& run : runs) comparison.step = std::min(comparison.step, LastStep(run));
  const std::vector<int64_t> validations = CommonValidations(runs, comparison.step);
  if (!validations.empty()) comparison.valid_step = validations.back();
  for (RunGroup& group : comparison.groups) group.name = NameOf(group.runs);
  for (RunGroup& group : comparison.groups) FillGroup(comparison.groups[0], comparison, group);
  comparison.rows = RowsOf(comparison, validations);
  return comparison;
}

}  // namespace unipool
