// Measures how long a rank's work takes: training steps of a small part of the model, by one rank alone,
// with ever larger microbatches. All ranks of the job do it at once, as they compute at once in a run. Each
// size runs with all experts of the rank and with the fewest that tokens can choose: the difference is what
// the weights of further experts cost.
#pragma once

#include <functional>
#include <vector>

#include "configs/cluster.pb.h"
#include "configs/config.pb.h"
#include "runtime/world.h"

namespace unipool {

struct WorkMeasured {
  std::vector<WorkConfig> work;                  // rates by kind, mean of the ranks
  double spread = 0;                             // of one rank's repeated pieces, median over kinds and sizes
  double noise = 0;                              // of a step of the largest size
  double memory_slack = 0, fixed_gigabytes = 0;  // where processes tell it; else 0
};

// The model of the settings with two layers and the experts that one of `ranks_of_pool` ranks owns. No
// larger microbatch is begun after `seconds`. `clock`: seconds of this rank. Collective over the world.
WorkMeasured MeasureWork(const Config& config, int ranks_of_pool, World& world,
                         const std::function<double()>& clock, double seconds);

}  // namespace unipool
