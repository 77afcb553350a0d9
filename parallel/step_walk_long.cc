#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "parallel/step_walk.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

constexpr int kMostWalkedTimes = 32;  // per stage, of a step that is slow to repeat itself
constexpr int kMostPeriod = 4;

// Time steps after which every rank is where it was, but for the time that has passed.
struct Steady {
  int period = 0;  // 0: not found
  double seconds = 0;
};

SlotSchedule WithMicrobatches(const SlotSchedule& schedule, int num_microbatches) {
  return SlotSchedule(schedule.layers_per_stage(), num_microbatches, schedule.forward_only(),
                      schedule.head_place());
}

// Looks at the last time steps in which all stages have work in both lanes. `guesses`: where none repeats
// another, the mean of the later half of them is taken.
Steady FindSteady(const SlotSchedule& schedule, const StepTimes& times, bool guesses) {
  const auto ranks = times.walked.size();
  const int first = schedule.forward_only() ? schedule.num_stages() - 1 : 2 * schedule.num_stages() - 1;
  const int last = schedule.num_microbatches() - 1;
  const auto end = [&](int time, size_t i) { return times.ends[time * ranks + i]; };
  for (int period = 1; period <= kMostPeriod && last - 2 * period >= first; ++period) {
    const double seconds = end(last, 0) - end(last - period, 0);
    bool repeats = true;
    for (int time = last; repeats && time >= last - period; --time) {
      for (size_t i = 0; repeats && i < ranks; ++i)
        repeats = std::abs(end(time, i) - end(time - period, i) - seconds) <= 1e-10 * end(last, 0);
    }
    if (repeats) return {.period = period, .seconds = seconds};
  }
  const int half = (last - first) / 2;
  if (!guesses || half < 1) return {};
  return {.period = 1, .seconds = (end(last, 0) - end(last - half, 0)) / half};
}

}  // namespace

double StepPlan::HeadTokens(int stage) const {
  return static_cast<double>(EvenPartition(std::llround(tokens), schedule.num_stages(), stage).size());
}

double StepPlan::HeadRest(double own) const {
  if (schedule.forward_only() || own <= 0) return 2.0 / 3;
  const auto chunk = static_cast<double>(head_chunk);
  return (own - chunk * (std::ceil(own / chunk) - 1)) / own / 3;
}

double RoutedRows::UsedByChance(double mean) const {
  return 1 - std::exp(-mean);
}

LevelRows::LevelRows(double rows, std::vector<int> experts_of) {
  const double experts = std::accumulate(experts_of.begin(), experts_of.end(), 0);
  for (const int own : experts_of) shares_.push_back(rows * own / experts);
}

void LevelRows::Fill(int, int, int, int, std::span<double> owners) const {
  std::copy(shares_.begin(), shares_.end(), owners.begin());
}

double WalkLongStep(const StepPlan& plan, const RoutedRows& rows, WalkOptions options) {
  CHECK(rows.all_are_alike());
  const int all = plan.schedule.num_microbatches(), num_stages = plan.schedule.num_stages();
  const int most = std::min(all, kMostWalkedTimes * num_stages);
  options.keeps_times = true;
  StepPlan few = plan;
  for (int walked = 2 * num_stages + 2;; walked *= 2) {
    if (walked >= most) walked = most;
    few.schedule = WithMicrobatches(plan.schedule, walked);
    const StepTimes times = WalkStep(few, rows, options);
    if (walked == all) return times.seconds;
    const Steady steady = FindSteady(few.schedule, times, walked == most);
    if (steady.period == 0) continue;
    const int rest = (all - walked) % steady.period, periods = (all - walked) / steady.period;
    if (rest == 0) return times.seconds + periods * steady.seconds;
    few.schedule = WithMicrobatches(plan.schedule, walked + rest);
    return WalkStep(few, rows, options).seconds + periods * steady.seconds;
  }
}

}  // namespace unipool
