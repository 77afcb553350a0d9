#include "models/step_plan.h"

#include <algorithm>

#include "models/expert_pool.h"
#include "models/lock/lock_plan.h"
#include "models/memory_plan.h"
#include "models/output_head.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "models/step_sums.h"
#include "runtime/communicator.h"
#include "runtime/range.h"
#include "runtime/traffic_step.h"

namespace unipool {
namespace {

constexpr double kOptimizerNumbers = 8;  // of a parameter, read or written in FP32

int64_t TokensOf(const Config& config) {
  return int64_t{config.train().micro_batch()} * config.model().seq_length();
}

// Tokens of a stage's share of a spread head that are worked on at once.
int64_t HeadChunk(const Config& config, const MeshShape& shape) {
  const int64_t share = EvenPartition(TokensOf(config), shape.stages, 0).size();
  return std::max<int64_t>(1, OutputHead::ChunkTokens(share, HeadTokens(config), DeviceOf(config)));
}

StepEnd EndOf(const Config& config, const MeshShape& shape, const SlotSchedule& schedule) {
  StepEnd end;
  for (int stage = 0; stage < shape.stages; ++stage) {
    end.dense_elements.push_back(DenseElements(config, shape, stage));
  }
  end.head_elements = SpreadHeadElements(config, shape);
  const int64_t down = int64_t{config.model().hidden()} * config.moe().width();
  for (int rank = 0; rank < shape.pool(); ++rank) {
    const int64_t experts = EvenPartition(config.moe().experts(), shape.pool(), rank).size();
    end.gate_up_elements.push_back(experts * 2 * down);
    end.down_elements.push_back(experts * down);
  }
  const bool on_device = DeviceOf(config) == Device::kCuda;
  end.element_bytes = 4;
  end.round_bytes = on_device ? Communicator::kDeviceSumRoundBytes : kHostSumRoundBytes;
  const int64_t counts = int64_t{config.model().layers()} * config.moe().experts();
  const int64_t num_slots = int64_t{schedule.num_times()} * schedule.slots_per_time();
  const int64_t traffic = config.traffic().record() == TrafficConfig::OFF
                              ? 0
                              : TrafficStepSums::NumNumbers(shape.world(), num_slots);
  end.step_numbers =
      StepSums::NumNumbers(counts, config.moe().experts(), shape.world(), traffic, HasLock(config));
  return end;
}

}  // namespace

WorkTimes WorkTimesOf(const Config& config, const WorkRates& rates) {
  const StageWork work = EstimateWork(config);
  const auto tokens = static_cast<double>(TokensOf(config));
  const double d = config.model().hidden(),
               row_bytes = d * static_cast<double>(SizeOf(DTypeOfConfig(config)));
  const double expert = 2 * 3 * config.moe().width() * d;  // of a row
  WorkTimes times{.rates = rates, .units = {}, .head_chunks = work.head_chunks};
  const auto unit = [&](WorkKind kind) -> double& { return times.units[static_cast<int>(kind)]; };
  unit(WorkKind::kDenseForward) = work.dense / tokens;
  unit(WorkKind::kDenseBackward) = (config.train().recompute_attention() ? 3 : 2) * work.dense / tokens;
  unit(WorkKind::kExpertsForward) = expert;
  unit(WorkKind::kExpertsInput) = expert * (config.train().recompute_experts() ? 5.0 / 3 : 1);
  unit(WorkKind::kExpertsWeights) = expert;
  unit(WorkKind::kHead) = 3 * work.head / tokens;
  unit(WorkKind::kRows) = 2 * row_bytes;
  unit(WorkKind::kOptimizer) = 4 * kOptimizerNumbers;
  return times;
}

StepPlan PlanStep(const Config& settings, const MeshShape& shape, const ClusterDescription& cluster,
                  const WorkRates& rates) {
  const Config config = WithChoices(settings, shape);
  const SlotSchedule schedule = TrainingSchedule(config, shape);
  const auto item = static_cast<double>(SizeOf(DTypeOfConfig(config)));
  const double row_bytes = item * config.model().hidden();
  const auto tokens = static_cast<double>(TokensOf(config));
  StepPlan plan{
      .mesh = shape,
      .schedule = schedule,
      .lanes = LaneOrderOf(config.parallel().lanes()),
      .cluster = cluster,
      .times = WorkTimesOf(config, rates),
      .tokens = tokens,
      .rows = tokens * config.moe().top_k(),
      .row_bytes = row_bytes,
      .kept_rows = double{1} *
                   ExpertPool::KeptColumns(config.moe().width(), config.train().recompute_experts()) /
                   config.model().hidden(),
      .hidden_bytes = tokens * row_bytes,
      .head_chunk = HeadChunk(config, shape),
      .pieces_alone = PiecesAlone(config),
      .experts_of = {},
      .end = EndOf(config, shape, schedule)};
  for (int rank = 0; rank < shape.pool(); ++rank) {
    plan.experts_of.push_back(
        static_cast<int>(EvenPartition(config.moe().experts(), shape.pool(), rank).size()));
  }
  return plan;
}

}  // namespace unipool
