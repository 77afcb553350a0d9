#include "models/expert_replacer.h"

#include <algorithm>
#include <numeric>

#include "parallel/expert_move.h"
#include "parallel/shadow_placement.h"
#include "parallel/slot_placement.h"

namespace unipool {

ExpertPlacement FirstPlacement(const ModelSpec& spec, ParallelConfig::Placement placement,
                               const SlotSchedule& schedule, const MeshShape& shape) {
  const int experts = static_cast<int>(spec.experts);
  const ExpertPlacement contiguous = ContiguousPlacement(experts, shape.pool());
  if (placement == ParallelConfig::CONTIGUOUS || shape.pool() == 1) return contiguous;
  std::vector<double> counts;
  for (int layer = 0; layer < spec.layers; ++layer) {
    const auto visible = static_cast<double>(spec.num_visible(layer));
    for (const float weight : spec.visible[layer]) counts.push_back(weight > 0 ? 1 / visible : 0);
  }
  return PlaceBySlots(SlotLoadsOf(counts, experts, schedule, shape.span), contiguous);
}

ExpertReplacer::ExpertReplacer(const ModelSpec& spec, const ParallelConfig& config, const Mesh& mesh,
                               const SlotSchedule& schedule, double copy_share, ExpertPlacement& placement,
                               ExpertPool& experts, const Optimizer* optimizer, Stream& stream,
                               MemoryMeter& memory)
    : spec_(spec),
      config_(config),
      mesh_(mesh),
      schedule_(schedule),
      copy_share_(copy_share),
      placement_(placement),
      experts_(experts),
      optimizer_(optimizer),
      stream_(stream),
      memory_(memory),
      counts_(spec.layers * spec.experts),
      shadow_counts_(placement.num_shadows() > 0 ? spec.layers * spec.experts : 0),
      owners_(spec.experts) {
  KeepOwners();
}

void ExpertReplacer::KeepOwners() {
  for (int expert = 0; expert < placement_.num_experts(); ++expert)
    owners_[expert] = placement_.owner(expert);
}

void ExpertReplacer::AddStep(std::span<const double> counts) {
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += counts[i];
  rows_of_step_ = std::accumulate(counts.begin(), counts.end(), 0.0);
}

std::optional<PlacementReport> ExpertReplacer::ReplaceIfDue(int64_t steps_done, const PoolLock* lock) {
  if (!is_on()) return {};
  const bool is_locked = lock && lock->has_owners() && steps_done >= lock->plan().lock_step;
  const bool locks_now = is_locked && steps_done == std::max<int64_t>(1, lock->plan().lock_step);
  const bool is_due = config_.replace_every() > 0 && steps_done % config_.replace_every() == 0;
  if (!is_due && !locks_now) return {};
  // What was counted while layers shared the pool says nothing of what follows the lock.
  if (locks_now) counts_ = EvenCountsOfOwners(lock->owners(), spec_.layers);
  const SlotLoads loads =
      SlotLoadsOf(counts_, static_cast<int>(spec_.experts), schedule_, mesh_.shape().span);
  const double before = SlotImbalanceOf(counts_);
  const bool by_stage = is_locked && config_.placement() == ParallelConfig::OWNER_STAGE;
  ExpertPlacement better = placement_.WithRoom(0);
  if (by_stage) {
    better = PlaceAtOwnerStage(lock->owners(), schedule_, mesh_.shape(), better);
  } else if (config_.placement() != ParallelConfig::CONTIGUOUS) {
    better = PlaceBySlots(loads, better);
  }
  better = WithShadows(better, counts_);
  PlacementReport report{.num_moved = NumMoved(placement_, better),
                         .num_shadows = NumShadows(better),
                         .imbalance_before = before};
  int64_t expert_bytes = 0;
  for (const Tensor& array : Arrays()) expert_bytes += array.dim(1) * array.dim(2) * SizeOf(array.dtype);
  report.bytes = report.num_moved * expert_bytes * mesh_.replicas().size();
  MoveTo(better, steps_done);
  report.imbalance_after = SlotImbalanceOf(counts_);
  report.rows = RowsToExpect();
  if (!shadow_counts_.empty()) shadow_counts_ = counts_;
  counts_.assign(counts_.size(), 0);
  return report;
}

// Counts are of many steps, and a checkpoint does not tell of how many.
SlotRoom ExpertReplacer::RowsToExpect() const {
  const double all = std::accumulate(counts_.begin(), counts_.end(), 0.0);
  if (all == 0) return {};
  SlotRoom rows = RoomInSlots({.counts = counts_, .schedule = schedule_}, placement_, mesh_.shape(),
                              mesh_.position().stage, mesh_.pool().rank());
  rows.forward *= rows_of_step_ / all;
  rows.backward *= rows_of_step_ / all;
  return rows;
}

ExpertPlacement ExpertReplacer::WithShadows(const ExpertPlacement& owners,
                                            std::span<const double> counts) const {
  if (placement_.num_shadows() == 0) return owners;
  return PlaceShadows(
      ShadowCounts{
          .counts = counts, .schedule = schedule_, .span = mesh_.shape().span, .copy_share = copy_share_},
      owners, placement_.num_shadows());
}

std::vector<Tensor> ExpertReplacer::Arrays() const {
  std::vector<Tensor> arrays{experts_.master().gate_up, experts_.master().down};
  if (!optimizer_) return arrays;
  for (const Tensor& moments : optimizer_->ExpertMoments()) arrays.push_back(moments);
  return arrays;
}

void ExpertReplacer::MoveTo(const ExpertPlacement& to, int64_t step) {
  MoveExperts(mesh_.pool(), placement_, to, Arrays(), step, stream_, memory_);
  placement_ = to.num_shadows() == placement_.num_shadows() ? to : to.WithRoom(placement_.num_shadows());
  experts_.SetExperts();
  KeepOwners();
}

double ExpertReplacer::SlotImbalanceOf(std::span<const double> counts) const {
  return SlotImbalance(ShadowCounts{.counts = counts, .schedule = schedule_, .span = mesh_.shape().span},
                       placement_);
}

std::vector<DiskTensor> ExpertReplacer::State() const {
  if (!is_on()) return {};
  auto* shadow_counts = const_cast<double*>(shadow_counts_.data());
  auto* owners = const_cast<int32_t*>(owners_.data());
  auto* counts = const_cast<double*>(counts_.data());
  std::vector<DiskTensor> list{{.name = Format("placement.owners_on_%d_ranks", placement_.num_ranks()),
                                .shape = {spec_.experts},
                                .value = Tensor(owners, DType::kI32, {spec_.experts}),
                                .optional = true},
                               {.name = "placement.counts",
                                .shape = {spec_.layers, spec_.experts},
                                .value = Tensor(counts, DType::kF64, {spec_.layers, spec_.experts}),
                                .optional = true}};
  if (!shadow_counts_.empty()) {
    list.push_back({.name = "placement.shadow_counts",
                    .shape = {spec_.layers, spec_.experts},
                    .value = Tensor(shadow_counts, DType::kF64, {spec_.layers, spec_.experts}),
                    .optional = true});
  }
  return list;
}

void ExpertReplacer::StateLoaded() {
  if (!is_on()) return;
  const ExpertPlacement owners({owners_.begin(), owners_.end()}, placement_.num_ranks());
  const bool has_counts =
      std::any_of(shadow_counts_.begin(), shadow_counts_.end(), [](double count) { return count > 0; });
  MoveTo(has_counts ? WithShadows(owners, shadow_counts_) : owners.WithRoom(placement_.num_shadows()));
}

}  // namespace unipool
