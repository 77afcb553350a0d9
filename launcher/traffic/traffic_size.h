// How large the records of single exchanges will be, before the run. Pure arithmetic.
#pragma once

#include <cstdint>
#include <string>

#include "configs/config.pb.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"

namespace unipool {

struct TrafficSize {
  int64_t exchanges = 0;  // of a step on one rank, about
  int64_t peers = 0;      // in these exchanges, at most
  double megabytes() const;
};

// sum_bytes: of the largest tensor list that ranks sum up, which goes in rounds.
TrafficSize TrafficSizeOf(const SlotSchedule& schedule, const MeshShape& shape, int64_t sum_bytes);

// Why `steps` steps of this size may not be recorded, with alternatives; "" where they may.
std::string TooLarge(const TrafficSize& step, int64_t steps, double max_megabytes);

// Why traffic.record=FULL will record no step of a start whose first step is `first_step`; "" where it will.
std::string NothingRecorded(const Config& config, int64_t first_step);

}  // namespace unipool
