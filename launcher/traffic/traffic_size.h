// How large the records of single exchanges will be, before the run. Pure arithmetic.
#pragma once

#include <cstdint>
#include <string>

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

}  // namespace unipool
