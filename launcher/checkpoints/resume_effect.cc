#include "launcher/checkpoints/resume_effect.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// "train.steps is 10 there and 20 here" of the settings that the learning rate depends on.
std::string Changes(const Config& before, const Config& now) {
  const auto schedule_of = [](const Config& config) {
    Config only;
    TrainConfig& train = *only.mutable_train();
    train.set_steps(config.train().steps());
    train.set_lr(config.train().lr());
    train.set_min_lr(config.train().min_lr());
    train.set_warmup_fraction(config.train().warmup_fraction());
    train.set_lr_schedule(config.train().lr_schedule());
    train.set_decay_steps(config.train().decay_steps());
    return ResolvedConfigText(only);
  };
  return SettingDifferences(schedule_of(before), schedule_of(now), "there", "here");
}

// How to keep the curve of a run whose cosine was as long as the run.
std::string KeepsTheCurve(const TrainConfig& before, const TrainConfig& now) {
  const bool follows_steps = before.lr_schedule() == TrainConfig::COSINE && before.decay_steps() == 0;
  const bool is_bent = now.lr_schedule() == TrainConfig::COSINE && now.decay_steps() == 0;
  if (!follows_steps || !is_bent || before.steps() == now.steps()) return "";
  return Format("; train.decay_steps=%d keeps the curve", before.steps());
}

// Whether a run with the settings of now would have had the rates of before in all steps that are done.
bool HadTheSameRates(const Config& before, const Config& now, int64_t step) {
  constexpr int64_t kMostLooks = 4096;
  const LearningRateSchedule was = ScheduleOf(before.train()), is = ScheduleOf(now.train());
  for (int64_t look = 0; look < std::min(step, kMostLooks); ++look) {
    const int64_t at = step <= kMostLooks ? look : look * (step - 1) / (kMostLooks - 1);
    const double a = LearningRate(was, at), b = LearningRate(is, at);
    if (std::abs(a - b) > 1e-6 * std::max(a, b)) return false;
  }
  return true;
}

std::string LearningRateEffect(const Config& before, const Config& now, int64_t step) {
  if (step >= now.train().steps()) return "";
  const double was = LearningRate(ScheduleOf(before.train()), step);
  const double is = LearningRate(ScheduleOf(now.train()), step);
  if (std::abs(is - was) <= 1e-6 * std::max(is, was)) return "";
  return Format(
      "the learning rate of step %d is %.4g, and would be %.4g with the settings before (%s); losses are "
      "%s%s",
      step + 1, is, was, Changes(before, now).c_str(),
      HadTheSameRates(before, now, step) ? "those of a run that had these settings from the start"
                                         : "not those of a run without a break",
      KeepsTheCurve(before.train(), now.train()).c_str());
}

std::string BatchEffect(const Config& before, const Config& now) {
  const int64_t was = int64_t{before.train().global_batch()} * before.model().seq_length();
  const int64_t is = int64_t{now.train().global_batch()} * now.model().seq_length();
  if (was == is) return "";
  return Format("a step has %d tokens from here on, and had %d; tokens count on from those trained", is, was);
}

// Samples are numbered through an epoch; other settings give the numbers to other samples.
std::string OrderEffect(const Config& before, const Config& now) {
  const auto order_of = [](const Config& config) {
    Config only;
    only.mutable_train()->set_seed(config.train().seed());
    only.mutable_model()->set_seq_length(config.model().seq_length());
    only.mutable_data()->set_order(config.data().order());
    only.mutable_data()->set_split(config.data().split());
    *only.mutable_data()->mutable_train() = config.data().train();
    return ResolvedConfigText(only);
  };
  const std::string changes = SettingDifferences(order_of(before), order_of(now), "there", "here");
  if (changes.empty()) return "";
  return "samples come in another order or from other data (" + changes +
         "): in this epoch some repeat and others are left out";
}

}  // namespace

LearningRateSchedule ScheduleOf(const TrainConfig& train) {
  using Shape = LearningRateSchedule::Shape;
  const Shape shape = train.lr_schedule() == TrainConfig::COSINE     ? Shape::kCosine
                      : train.lr_schedule() == TrainConfig::CONSTANT ? Shape::kConstant
                                                                     : Shape::kStable;
  return {.shape = shape,
          .highest = train.lr(),
          .lowest = train.min_lr(),
          .warmup_fraction = train.warmup_fraction(),
          .steps = train.steps(),
          .decay_steps = train.decay_steps()};
}

Config SettingsOf(const std::string& config_text, const Config& otherwise) {
  try {
    return ParseConfig(config_text, "config.txtpb");
  } catch (const UserError&) {
    return otherwise;
  }
}

DataCount CountOf(const std::string& training_state, const Config& before, int64_t step) {
  const auto state = nlohmann::json::parse(training_state, nullptr, false);
  const auto counted = [&](const char* name, int64_t otherwise) {
    if (!state.is_object() || !state.contains(name) || !state[name].is_number_integer()) return otherwise;
    const int64_t count = state[name].get<int64_t>();
    constexpr int64_t kMost = int64_t{1} << 62;
    return count >= 0 && count < kMost ? count : otherwise;
  };
  const int64_t samples = step * before.train().global_batch();
  return {.samples = counted("samples", samples),
          .tokens = counted("tokens", samples * before.model().seq_length())};
}

std::string DataEffect(const std::string& training_state, const std::vector<std::string>& files) {
  const auto state = nlohmann::json::parse(training_state, nullptr, false);
  if (!state.is_object() || !state.contains("data") || !state["data"].is_array()) return "";
  const auto name_of = [](const std::string& line) { return line.substr(0, line.rfind(": ")); };
  std::string text;
  for (const nlohmann::json& entry : state["data"]) {
    if (!entry.is_string()) continue;
    const auto was = entry.get<std::string>();
    for (const std::string& is : files) {
      if (name_of(is) != name_of(was) || is == was) continue;
      text += (text.empty() ? "" : "; ") + is + " here, and" + was.substr(name_of(was).size() + 1) + " there";
      break;
    }
  }
  if (text.empty()) return "";
  return "data has changed since the checkpoint (" + text +
         "); samples are not those of a run without a break";
}

std::string ResumeEffects(const Config& before, const Config& now, int64_t step) {
  std::string text;
  for (const std::string& effect :
       {LearningRateEffect(before, now, step), BatchEffect(before, now), OrderEffect(before, now)}) {
    if (!effect.empty()) text += (text.empty() ? "" : "\n") + effect;
  }
  return text;
}

}  // namespace unipool
