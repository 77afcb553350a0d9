#include "models/lock/owner_placement.h"

namespace unipool {
namespace {

int StageOfLayer(const SlotSchedule& schedule, int layer) {
  int stage = 0;
  while (stage + 1 < schedule.num_stages() && layer >= schedule.FirstLayer(stage + 1)) ++stage;
  return stage;
}

}  // namespace

std::vector<double> EvenCountsOfOwners(std::span<const int32_t> owners, int64_t layers) {
  const auto experts = static_cast<int64_t>(owners.size());
  std::vector<double> counts(layers * experts);
  for (int64_t i = 0; i < experts; ++i) counts[owners[i] * experts + i] = 1;
  return counts;
}

ExpertPlacement PlaceAtOwnerStage(std::span<const int32_t> owners, const SlotSchedule& schedule,
                                  const MeshShape& shape, const ExpertPlacement& current) {
  if (shape.span == PoolSpan::kStage) return current;
  const auto experts = static_cast<int>(owners.size());
  std::vector<size_t> room(current.num_ranks());
  for (int rank = 0; rank < current.num_ranks(); ++rank) room[rank] = current.experts_of(rank).size();
  std::vector<int> rank_of(experts, -1), next(shape.stages, 0);
  int num_layers = 0;
  for (int stage = 0; stage < schedule.num_stages(); ++stage) num_layers += schedule.num_layers(stage);
  for (int layer = 0; layer < num_layers; ++layer) {
    const int stage = StageOfLayer(schedule, layer);
    for (int expert = 0; expert < experts; ++expert) {
      if (owners[expert] != layer) continue;
      for (int tried = 0; tried < shape.data && rank_of[expert] < 0; ++tried) {
        const int rank = stage * shape.data + next[stage];
        next[stage] = (next[stage] + 1) % shape.data;
        if (room[rank] == 0) continue;
        --room[rank];
        rank_of[expert] = rank;
      }
    }
  }
  int rank = 0;
  for (int& found : rank_of) {
    if (found >= 0) continue;
    while (room[rank] == 0) ++rank;
    --room[rank];
    found = rank;
  }
  return {rank_of, current.num_ranks()};
}

}  // namespace unipool
