#include "parallel/slot_room.h"

#include <algorithm>

#include "runtime/errors.h"

namespace unipool {
namespace {

// [L] rows of each layer, of the whole step, that come to a rank.
std::vector<double> RowsByLayer(std::span<const double> counts, const ExpertPlacement& placement, int rank) {
  const auto experts = static_cast<size_t>(placement.num_experts());
  CHECK_EQ(counts.size() % experts, 0U);
  std::vector<double> rows(counts.size() / experts);
  for (size_t layer = 0; layer < rows.size(); ++layer) {
    const std::span<const double> of_layer = counts.subspan(layer * experts, experts);
    if (!placement.has_shares()) {
      for (const int expert : placement.experts_of(rank)) rows[layer] += of_layer[expert];
      continue;
    }
    const std::span<const int32_t> shares = placement.shares(static_cast<int>(layer));
    for (int place = placement.first_of(rank); place < placement.first_of(rank + 1); ++place) {
      const int expert = placement.send_order()[place];
      if (expert >= 0) rows[layer] += of_layer[expert] * shares[place] / kShareUnits;
    }
  }
  return rows;
}

}  // namespace

SlotRoom RoomInSlots(const ShadowCounts& counts, const ExpertPlacement& placement, const MeshShape& shape,
                     int stage, int pool_rank) {
  const SlotSchedule& schedule = counts.schedule;
  const bool of_stage = shape.span == PoolSpan::kStage;
  const int first_stage = of_stage ? stage : 0, end_stage = of_stage ? stage + 1 : schedule.num_stages();
  const std::vector<double> rows = RowsByLayer(counts.counts, placement, pool_rank);
  const double microbatches = static_cast<double>(schedule.num_microbatches() * shape.replicas);
  const auto rows_in = [&](Lane lane, SlotId slot) {
    double sum = 0;
    for (int s = first_stage; s < end_stage; ++s) {
      const LaneWork work = schedule.Work(lane, s, slot);
      if (!work.idle()) sum += rows[schedule.FirstLayer(s) + work.layer] / microbatches;
    }
    return sum;
  };
  SlotRoom most;
  for (int time = 0; time < schedule.num_times(); ++time) {
    for (int index = 0; index < schedule.slots_per_time(); ++index) {
      most.forward = std::max(most.forward, rows_in(Lane::kForward, {.time = time, .index = index}));
      most.backward = std::max(most.backward, rows_in(Lane::kBackward, {.time = time, .index = index}));
    }
  }
  return most;
}

}  // namespace unipool
