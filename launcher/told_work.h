// Work of an emulated rank whose processor the cluster's file describes (processor.emulate of
// configs/cluster.proto): the rank's clock is told what each piece takes there.
#pragma once

#include <memory>

#include "configs/config.pb.h"
#include "parallel/work_times.h"
#include "runtime/world.h"

namespace unipool {

// Null where no such cluster is emulated. `world` outlives the result.
std::unique_ptr<WorkMeter> TellWork(const Config& config, World& world);

}  // namespace unipool
