#include "launcher/resume_effect.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launcher/config.h"
#include "launcher/weight_check.h"
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

std::string LearningRateEffect(const Config& before, const Config& now, int64_t step) {
  if (step >= now.train().steps()) return "";
  const double was = LearningRate(ScheduleOf(before.train()), step);
  const double is = LearningRate(ScheduleOf(now.train()), step);
  if (std::abs(is - was) <= 1e-6 * std::max(is, was)) return "";
  return Format(
      "the learning rate of step %d is %.4g, and would be %.4g with the settings before (%s); losses are not "
      "those of a run without a break%s",
      step + 1, is, was, Changes(before, now).c_str(), KeepsTheCurve(before.train(), now.train()).c_str());
}

std::string BatchEffect(const Config& before, const Config& now) {
  const int64_t was = int64_t{before.train().global_batch()} * before.model().seq_length();
  const int64_t is = int64_t{now.train().global_batch()} * now.model().seq_length();
  if (was == is) return "";
  return Format("a step has %d tokens from here on, and had %d; tokens count on from those trained", is, was);
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

std::string ResumeEffects(const Config& before, const Config& now, int64_t step) {
  std::string text = LearningRateEffect(before, now, step);
  const std::string batch = BatchEffect(before, now);
  if (!text.empty() && !batch.empty()) text += '\n';
  return text + batch;
}

}  // namespace unipool
