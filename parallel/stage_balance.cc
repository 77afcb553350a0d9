#include "parallel/stage_balance.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

// A backward takes twice its forward.
int ForwardsOf(const LaneWork& forward, const LaneWork& backward) {
  return !forward.idle() + 2 * !backward.idle();
}

double HeadTime(const SlotSchedule& schedule, const StageWork& work, const HeadWork& head) {
  if (head.idle()) return 0;
  const int parts = schedule.num_head_parts();
  const int64_t chunks = EvenPartition(work.head_chunks, parts, head.end - 1).end -
                         EvenPartition(work.head_chunks, parts, head.begin).begin;
  const double whole = (schedule.forward_only() ? 1 : 3) * work.head;
  return whole * static_cast<double>(chunks) / work.head_chunks;
}

// What stages do in slots; index n: after the slots.
class Walk {
 public:
  Walk(const SlotSchedule& schedule, const StageWork& work) : schedule_(schedule), work_(work) {}
  double Dense(int stage, SlotId slot) const {
    double time = work_.dense * Forwards(stage, slot);
    if (stage + 1 < schedule_.num_stages()) return time;
    for (const Lane lane : {Lane::kForward, Lane::kBackward}) {
      time += HeadTime(schedule_, work_, schedule_.Head(lane, slot));
    }
    return time;
  }
  double Experts(int stage, SlotId slot) const { return work_.expert * Forwards(stage, slot); }

 private:
  int Forwards(int stage, SlotId slot) const {
    if (slot.index == schedule_.slots_per_time()) return 0;
    return ForwardsOf(schedule_.Work(Lane::kForward, stage, slot),
                      schedule_.Work(Lane::kBackward, stage, slot));
  }
  const SlotSchedule& schedule_;
  const StageWork& work_;
};

// Once every stage has work in both lanes, each further microbatch costs the same: few are walked.
double LongStepTime(const std::vector<int>& layers, int num_microbatches, const StageWork& work,
                    PoolSpan span) {
  const int walked = std::min(num_microbatches, 2 * static_cast<int>(layers.size()) + 1);
  const double time = PredictStepTime(SlotSchedule(layers, walked), work, span);
  if (walked == num_microbatches) return time;
  const double shorter = PredictStepTime(SlotSchedule(layers, walked - 1), work, span);
  return time + (num_microbatches - walked) * (time - shorter);
}

int64_t Unevenness(const std::vector<int>& layers) {
  return std::inner_product(layers.begin(), layers.end(), layers.begin(), int64_t{0});
}

bool AreFew(int num_layers, int num_stages) {
  double cuts = 1;  // (L - 1) choose (S - 1)
  for (int i = 1; i < num_stages; ++i) cuts *= static_cast<double>(num_layers - i) / i;
  return cuts <= 3000.5;
}

using CutFunction = std::function<void(const std::vector<int>&)>;

// Calls `body` with every way to give num_layers to the stages after those in `layers`.
void ForEveryCut(int num_layers, int num_stages, std::vector<int>& layers, const CutFunction& body) {
  const int first = num_stages == 1 ? num_layers : 1;
  for (int count = first; count <= num_layers - num_stages + 1; ++count) {
    layers.push_back(count);
    if (num_stages == 1) {
      body(layers);
    } else {
      ForEveryCut(num_layers - count, num_stages - 1, layers, body);
    }
    layers.pop_back();
  }
}

void ForEachCut(int num_layers, int num_stages, const CutFunction& body) {
  std::vector<int> layers;
  if (AreFew(num_layers, num_stages)) return ForEveryCut(num_layers, num_stages, layers, body);
  for (int last = 1; last <= num_layers - num_stages + 1; ++last) {
    layers = EvenLayers(num_layers - last, num_stages - 1);
    layers.push_back(last);
    body(layers);
    std::reverse(layers.begin(), layers.end() - 1);  // the first stages take less: a shorter ramp
    body(layers);
  }
}

}  // namespace

double PredictStepTime(const SlotSchedule& schedule, const StageWork& work, PoolSpan span) {
  const Walk walk(schedule, work);
  const int num_stages = schedule.num_stages();
  double step = 0;
  std::vector<double> of_stage(num_stages);
  for (int time = 0; time < schedule.num_times(); ++time) {
    std::fill(of_stage.begin(), of_stage.end(), 0);
    for (int index = 0; index <= schedule.slots_per_time(); ++index) {
      const SlotId slot{.time = time, .index = index};
      double slowest = 0, experts = 0;
      for (int stage = 0; stage < num_stages; ++stage) {
        const double dense = walk.Dense(stage, slot), expert = walk.Experts(stage, slot);
        slowest = std::max(slowest, dense);
        experts += expert / num_stages;
        of_stage[stage] += dense + expert;
      }
      if (span == PoolSpan::kReplica) step += slowest + experts;
    }
    if (span == PoolSpan::kStage) step += *std::max_element(of_stage.begin(), of_stage.end());
  }
  return step;
}

double IdealStepTime(const SlotSchedule& schedule, const StageWork& work) {
  double forward = work.head;
  for (int stage = 0; stage < schedule.num_stages(); ++stage) {
    forward += schedule.num_layers(stage) * (work.dense + work.expert);
  }
  return schedule.num_microbatches() * (schedule.forward_only() ? 1 : 3) * forward / schedule.num_stages();
}

std::vector<int> EvenLayers(int num_layers, int num_stages) {
  std::vector<int> layers;
  for (int stage = 0; stage < num_stages; ++stage) {
    layers.push_back(static_cast<int>(EvenPartition(num_layers, num_stages, stage).size()));
  }
  return layers;
}

std::vector<int> ChooseLayersPerStage(int num_layers, int num_stages, int num_microbatches,
                                      const StageWork& work, PoolSpan span) {
  CHECK_LE(num_stages, num_layers);
  std::vector<int> best = EvenLayers(num_layers, num_stages);
  const auto time_of = [&](const std::vector<int>& layers) {
    return LongStepTime(layers, num_microbatches, work, span);
  };
  const std::vector<int> even = best;
  const double time_of_even = time_of(even);
  double least = time_of_even;
  ForEachCut(num_layers, num_stages, [&](const std::vector<int>& layers) {
    const double time = time_of(layers);
    const bool is_equal = std::abs(time - least) <= 1e-9 * least;
    if (is_equal ? Unevenness(layers) >= Unevenness(best) : time > least) return;
    least = time;
    best = layers;
  });
  return least <= (1 - kWorthwhile) * time_of_even ? best : even;
}

}  // namespace unipool
