#include "launcher/reports/earlier_settings.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/resume_effect.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

constexpr double kSameRate = 1e-6;   // relative
constexpr size_t kMostSettings = 4;  // in a sentence

// What the metrics of a step say, and what they would be by the settings.
struct Mismatch {
  int64_t step = 0;
  double was = 0, by_settings = 0;
};

std::optional<Mismatch> LastOtherRate(const Config& now, const MetricSeries& series) {
  const auto rates = series.find("lr");
  if (rates == series.end()) return std::nullopt;
  const LearningRateSchedule schedule = ScheduleOf(now.train());
  for (auto rate = rates->second.rbegin(); rate != rates->second.rend(); ++rate) {
    const auto& [step, was] = *rate;
    if (step < 1 || !std::isfinite(was)) continue;
    const double is = LearningRate(schedule, step - 1);
    if (std::abs(was - is) > kSameRate * std::max(std::abs(was), std::abs(is)))
      return Mismatch{.step = step, .was = was, .by_settings = is};
  }
  return std::nullopt;
}

std::optional<Mismatch> LastOtherBatch(const Config& now, const MetricSeries& series) {
  const auto found = series.find("tokens");
  if (found == series.end()) return std::nullopt;
  const double is = double{1} * now.train().global_batch() * now.model().seq_length();
  const auto& tokens = found->second;
  for (size_t i = tokens.size(); i-- > 0;) {
    const bool is_first = tokens[i].first == 1;
    if (!is_first && (i == 0 || tokens[i - 1].first != tokens[i].first - 1)) continue;
    const double was = tokens[i].second - (is_first ? 0 : tokens[i - 1].second);
    if (std::isfinite(was) && was != is)
      return Mismatch{.step = tokens[i].first, .was = was, .by_settings = is};
  }
  return std::nullopt;
}

// What settings do to a run's numbers, as a resolved text.
std::string Relevant(Config config, bool with_schedule) {
  config.clear_run_dir();
  config.clear_traffic();
  config.clear_metrics();
  config.mutable_parallel()->clear_watchdog_seconds();
  config.mutable_parallel()->clear_file_watchdog_seconds();
  TrainConfig& train = *config.mutable_train();
  train.clear_stop_at();
  train.clear_save_every();
  train.clear_save_minutes();
  train.clear_keep_checkpoints();
  train.clear_resume_step();
  train.clear_eval_every();
  if (!with_schedule) {
    train.clear_steps();
    train.clear_lr();
    train.clear_min_lr();
    train.clear_warmup_fraction();
    train.clear_lr_schedule();
    train.clear_decay_steps();
  }
  return ResolvedConfigText(config);
}

std::string WordsOf(const std::vector<SettingDifference>& differences) {
  std::string text;
  for (size_t i = 0; i < differences.size() && i < kMostSettings; ++i) {
    const SettingDifference& difference = differences[i];
    text += (i == 0 ? "" : ", ") + difference.path + " " + difference.one + " (now " + difference.other + ")";
  }
  if (differences.size() > kMostSettings) text += Format(" and %d more", differences.size() - kMostSettings);
  return text;
}

// Of the newest checkpoint with other settings. One that cannot be read, or by this program, tells nothing.
EarlierSettings OfCheckpoints(const std::string& run_dir, const Config& now, bool with_schedule) {
  try {
    for (const std::string& folder : ListCheckpoints(run_dir)) {
      std::string text;
      try {
        text = ReadTextFile(folder + "/config.txtpb");
      } catch (const UserError&) {
        continue;
      }
      const std::vector<SettingDifference> differences =
          ListDifferences(Relevant(SettingsOf(text, now), with_schedule), Relevant(now, with_schedule));
      if (differences.empty()) continue;
      return {.step = StepOfCheckpoint(folder), .words = WordsOf(differences)};
    }
  } catch (const UserError&) {  // the folder cannot be listed
  }
  return {};
}

}  // namespace

EarlierSettings FindEarlierSettings(const std::string& run_dir, const Config& now,
                                    const MetricSeries& series) {
  const std::optional<Mismatch> rate = LastOtherRate(now, series), batch = LastOtherBatch(now, series);
  EarlierSettings earlier = OfCheckpoints(run_dir, now, rate.has_value());
  const int64_t by_metrics = std::max(rate ? rate->step : 0, batch ? batch->step : 0);
  const bool is_up_to = by_metrics > 0 && by_metrics >= earlier.step;
  std::string traces;
  if (earlier.words.empty() && rate)
    traces = Format("learning rate %.4g there, by the settings %.4g", rate->was, rate->by_settings);
  if (earlier.words.empty() && batch)
    traces += Format("%s%d tokens a step, by the settings %d", traces.empty() ? "" : ", ",
                     std::llround(batch->was), std::llround(batch->by_settings));
  earlier.step = std::max(earlier.step, by_metrics);
  if (earlier.step == 0) return {};
  earlier.words = Format("had other settings %s step %d: ", is_up_to ? "up to" : "at", earlier.step) +
                  earlier.words + traces;
  return earlier;
}

}  // namespace unipool
