#include "parallel/slot_loads.h"

#include <algorithm>
#include <map>

#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr Lane kLanes[] = {Lane::kForward, Lane::kBackward};

// Time steps in which the same lanes are busy.
struct AlikeTimes {
  int first = 0, count = 0;
};

std::vector<AlikeTimes> GroupTimes(const SlotSchedule& schedule, int first_stage, int end_stage) {
  std::map<std::vector<bool>, AlikeTimes> groups;
  for (int time = 0; time < schedule.num_times(); ++time) {
    std::vector<bool> busy;
    for (int stage = first_stage; stage < end_stage; ++stage) {
      for (Lane lane : kLanes) busy.push_back(schedule.Microbatch(lane, stage, time) >= 0);
    }
    AlikeTimes& group = groups.try_emplace(busy, AlikeTimes{.first = time}).first->second;
    ++group.count;
  }
  std::vector<AlikeTimes> list;
  for (const auto& [busy, group] : groups) {
    if (std::find(busy.begin(), busy.end(), true) != busy.end()) list.push_back(group);
  }
  return list;
}

// One slot's rows of all experts are added to column `slot`.
class LoadTable {
 public:
  LoadTable(std::span<const double> counts, int num_experts, const SlotSchedule& schedule)
      : counts_(counts), num_experts_(num_experts), schedule_(schedule), first_layer_{0} {
    for (int stage = 0; stage < schedule.num_stages(); ++stage) {
      first_layer_.push_back(first_layer_.back() + schedule.num_layers(stage));
    }
    CHECK_EQ(static_cast<int64_t>(counts.size()), int64_t{first_layer_.back()} * num_experts);
  }
  void AddStages(int first_stage, int end_stage) {
    for (const AlikeTimes& times : GroupTimes(schedule_, first_stage, end_stage)) {
      for (int index = 0; index < schedule_.slots_per_time(); ++index) {
        columns_.emplace_back(num_experts_);
        for (int stage = first_stage; stage < end_stage; ++stage) {
          for (Lane lane : kLanes) AddLane(lane, stage, {.time = times.first, .index = index}, times.count);
        }
      }
    }
  }
  SlotLoads Take() const {
    SlotLoads result{
        .num_experts = num_experts_, .num_slots = static_cast<int>(columns_.size()), .loads = {}};
    for (int expert = 0; expert < num_experts_; ++expert) {
      for (const std::vector<double>& column : columns_) result.loads.push_back(column[expert]);
    }
    return result;
  }

 private:
  void AddLane(Lane lane, int stage, SlotId slot, int times) {
    const LaneWork work = schedule_.Work(lane, stage, slot);
    if (work.idle()) return;
    const double weight =
        (lane == Lane::kBackward ? kBackwardWeight : 1) * times / schedule_.num_microbatches();
    const double* row = counts_.data() + int64_t{first_layer_[stage] + work.layer} * num_experts_;
    for (int expert = 0; expert < num_experts_; ++expert) columns_.back()[expert] += weight * row[expert];
  }

  std::span<const double> counts_;
  const int num_experts_;
  const SlotSchedule& schedule_;
  std::vector<int> first_layer_;
  std::vector<std::vector<double>> columns_;  // one per slot, [M]
};

struct Level {
  double largest = 0, mean = 0;
};

std::vector<Level> Levels(const SlotLoads& loads, const ExpertPlacement& placement) {
  const std::vector<double> ranks = RankLoads(loads, placement);
  std::vector<Level> levels(loads.num_slots);
  for (int slot = 0; slot < loads.num_slots; ++slot) {
    for (int rank = 0; rank < placement.num_ranks(); ++rank) {
      const double load = ranks[static_cast<size_t>(rank) * loads.num_slots + slot];
      levels[slot].largest = std::max(levels[slot].largest, load);
      levels[slot].mean += load / placement.num_ranks();
    }
  }
  return levels;
}

double Ratio(const Level& level) {
  return level.mean > 0 ? level.largest / level.mean : 1;
}

Level Sum(const std::vector<Level>& levels) {
  Level sum;
  for (const Level& level : levels) sum = {sum.largest + level.largest, sum.mean + level.mean};
  return sum;
}

}  // namespace

SlotLoads SlotLoadsOf(std::span<const double> counts, int num_experts, const SlotSchedule& schedule,
                      PoolSpan span) {
  LoadTable table(counts, num_experts, schedule);
  if (span == PoolSpan::kReplica) {
    table.AddStages(0, schedule.num_stages());
  } else {
    for (int stage = 0; stage < schedule.num_stages(); ++stage) table.AddStages(stage, stage + 1);
  }
  return table.Take();
}

std::vector<double> RankLoads(const SlotLoads& loads, const ExpertPlacement& placement) {
  CHECK_EQ(loads.num_experts, placement.num_experts());
  std::vector<double> ranks(static_cast<size_t>(placement.num_ranks()) * loads.num_slots);
  for (int expert = 0; expert < loads.num_experts; ++expert) {
    double* rank = ranks.data() + static_cast<size_t>(placement.owner(expert)) * loads.num_slots;
    const std::span<const double> load = loads.of(expert);
    for (int slot = 0; slot < loads.num_slots; ++slot) rank[slot] += load[slot];
  }
  return ranks;
}

double LockstepCost(const SlotLoads& loads, const ExpertPlacement& placement) {
  return Sum(Levels(loads, placement)).largest;
}

std::vector<double> SlotImbalances(const SlotLoads& loads, const ExpertPlacement& placement) {
  std::vector<double> imbalances;
  for (const Level& level : Levels(loads, placement)) imbalances.push_back(Ratio(level));
  return imbalances;
}

double SlotImbalance(const SlotLoads& loads, const ExpertPlacement& placement) {
  return Ratio(Sum(Levels(loads, placement)));
}

double LeastSlotImbalance(const SlotLoads& loads, int num_ranks) {
  std::vector<Level> levels(loads.num_slots);
  for (int slot = 0; slot < loads.num_slots; ++slot) {
    Level& level = levels[slot];
    for (int expert = 0; expert < loads.num_experts; ++expert) {
      level.largest = std::max(level.largest, loads.of(expert)[slot]);
      level.mean += loads.of(expert)[slot] / num_ranks;
    }
    level.largest = std::max(level.largest, level.mean);
  }
  return Ratio(Sum(levels));
}

}  // namespace unipool
