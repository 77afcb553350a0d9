#include "models/compute_place.h"

#include <cmath>

#include "kernels/cuda_context.h"
#include "models/settings.h"

namespace unipool {

namespace {

DeviceContext* DeviceToUse(const Config& config, DeviceContext* own, DeviceContext* given) {
  if (DeviceOf(config) == Device::kCpu) return nullptr;
  return own ? own : given;
}

}  // namespace

ComputePlace::ComputePlace(const Config& config, World& world, DeviceContext* given)
    : own_device_(DeviceOf(config) == Device::kCuda && !given ? MakeCudaContext(world.local_rank) : nullptr),
      device_(DeviceToUse(config, own_device_.get(), given)),
      device_memory_(device_),
      memory_(device_ ? &device_memory_ : world.memory) {
  if (!device_) {
    stream_.emplace(*memory_);
    return;
  }
  stream_.emplace(
      *memory_,
      CudaQueue{.stream = device_->queue(DeviceQueue::kCompute), .blas = device_->blas(), .memory = device_});
  const ParallelConfig& parallel = config.parallel();
  ChosenLinks chosen = MakeDeviceLinks(
      {.requested = TransportKindOf(parallel.transport()),
       .device_id = device_->id(),
       .device_name = device_->name(),
       .timeout = std::chrono::milliseconds(std::llround(1000 * parallel.watchdog_seconds()))},
      world, {.context = *device_, .compute = *stream_, .memory = *memory_});
  links_ = std::move(chosen.links);
  transport_ = chosen.choice.why;
}

}  // namespace unipool
