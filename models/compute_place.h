// Where a rank computes: the CPU, or a device with its queue of kernels, its memory, and what carries memory
// of devices between ranks.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "configs/config.pb.h"
#include "parallel/device_links.h"
#include "runtime/device_context.h"
#include "runtime/stream.h"
#include "runtime/world.h"

namespace unipool {

class ComputePlace {
 public:
  // As config.device says. `given` is the device to use with CUDA and outlives the place; null: the place
  // makes its own. Collective over the world.
  ComputePlace(const Config& config, World& world, DeviceContext* given);

  DeviceContext* device() const { return device_; }  // null: the CPU
  MemoryMeter& memory() { return *memory_; }         // of the place: on the CPU the world's
  const MemoryMeter& memory() const { return *memory_; }
  Stream& stream() { return *stream_; }
  DeviceLinks* links() const { return links_.get(); }  // null: the CPU
  // How device memory travels and why, a line for people; empty on the CPU.
  const std::string& transport() const { return transport_; }

 private:
  std::unique_ptr<DeviceContext> own_device_;
  DeviceContext* device_;
  MemoryMeter device_memory_;
  MemoryMeter* memory_;
  std::optional<Stream> stream_;
  std::unique_ptr<DeviceLinks> links_;
  std::string transport_;
};

}  // namespace unipool
