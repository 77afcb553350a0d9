// How the ranks of a configuration are started.
#pragma once

#include "configs/config.pb.h"
#include "runtime/world.h"

namespace unipool {

inline WorldOptions WorldOptionsOf(const Config& config) {
  const double milliseconds = config.parallel().watchdog_seconds() * 1000;
  return {.num_threads = config.parallel().ranks(),
          .timeout = std::chrono::milliseconds(static_cast<int64_t>(milliseconds))};
}

}  // namespace unipool
