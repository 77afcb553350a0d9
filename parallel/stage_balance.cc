#include "parallel/stage_balance.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "parallel/step_walk.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

StepPlan FreeWirePlan(const SlotSchedule& schedule, const StageWork& work, PoolSpan span) {
  const double tokens = schedule.num_stages();  // so that a spread head has as many for each
  const MeshShape mesh{.stages = schedule.num_stages(), .data = 1, .span = span};
  StepPlan plan{.mesh = mesh,
                .schedule = schedule,
                .cluster = {},
                .times = {},
                .tokens = tokens,
                .rows = 1,
                .row_bytes = 1,
                .hidden_bytes = 1,
                .experts_of = std::vector<int>(mesh.pool(), 1),
                .end = {}};
  plan.times.head_chunks = work.head_chunks;
  const auto set = [&](WorkKind kind, double seconds) {
    plan.times.units[static_cast<int>(kind)] = seconds;
    plan.times.rates[static_cast<int>(kind)].points = {{.amount = 1, .units_per_second = 1}};
  };
  set(WorkKind::kDenseForward, work.dense / tokens);
  set(WorkKind::kDenseBackward, 2 * work.dense / tokens);
  set(WorkKind::kExpertsForward, work.expert);
  set(WorkKind::kExpertsInput, work.expert);
  set(WorkKind::kExpertsWeights, work.expert);
  set(WorkKind::kHead, 3 * work.head / tokens);
  return plan;
}

// No step can take less: the stage with most dense work, and the experts' work of a rank.
double LeastTime(const std::vector<int>& layers, int num_microbatches, const StageWork& work, PoolSpan span,
                 HeadPlace head_place) {
  const int all = std::accumulate(layers.begin(), layers.end(), 0);
  double slowest = 0;
  for (size_t s = 0; s < layers.size(); ++s) {
    const double experts = span == PoolSpan::kStage ? layers[s] : all / static_cast<double>(layers.size());
    const double head = head_place == HeadPlace::kSpread ? work.head / static_cast<double>(layers.size())
                        : s + 1 == layers.size()         ? work.head
                                                         : 0;
    slowest = std::max(slowest, layers[s] * work.dense + experts * work.expert + head);
  }
  return 3 * num_microbatches * slowest;
}

double TimeOf(const std::vector<int>& layers, int num_microbatches, const StageWork& work, PoolSpan span,
              HeadPlace head_place) {
  return PredictStepTime(SlotSchedule(layers, num_microbatches, /*forward_only=*/false, head_place), work,
                         span);
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
  const StepPlan plan = FreeWirePlan(schedule, work, span);
  return WalkLongStep(plan, LevelRows(plan.rows, plan.experts_of),
                      {.detail = WalkDetail::kTotals, .ranks = WalkRanks::kOnePerStage, .has_end = false});
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
                                      const StageWork& work, PoolSpan span, HeadPlace head_place) {
  CHECK_LE(num_stages, num_layers);
  std::vector<int> best = EvenLayers(num_layers, num_stages);
  const auto time_of = [&](const std::vector<int>& layers) {
    return TimeOf(layers, num_microbatches, work, span, head_place);
  };
  const std::vector<int> even = best;
  const double time_of_even = time_of(even);
  double least = time_of_even;
  ForEachCut(num_layers, num_stages, [&](const std::vector<int>& layers) {
    if (LeastTime(layers, num_microbatches, work, span, head_place) > least * (1 + 1e-9)) return;
    const double time = time_of(layers);
    const bool is_equal = std::abs(time - least) <= 1e-9 * least;
    if (is_equal ? Unevenness(layers) >= Unevenness(best) : time > least) return;
    least = time;
    best = layers;
  });
  return least <= (1 - kWorthwhile) * time_of_even ? best : even;
}

HeadPlace ChooseHeadPlace(int num_layers, int num_stages, int num_microbatches, const StageWork& work,
                          PoolSpan span, const std::vector<int>& given) {
  if (num_stages == 1) return HeadPlace::kLastStage;
  const auto time_of = [&](HeadPlace place) {
    const std::vector<int> layers =
        given.empty() ? ChooseLayersPerStage(num_layers, num_stages, num_microbatches, work, span, place)
                      : given;
    return TimeOf(layers, num_microbatches, work, span, place);
  };
  return time_of(HeadPlace::kSpread) <= (1 - kWorthwhile) * time_of(HeadPlace::kLastStage)
             ? HeadPlace::kSpread
             : HeadPlace::kLastStage;
}

}  // namespace unipool
