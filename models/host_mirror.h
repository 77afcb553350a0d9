// The host's memory of what a rank keeps on its device between steps: weights and moments as files hold them.
// Files are read into and written from host memory alone, so that checkpoints know no device.
#pragma once

#include <vector>

#include "runtime/buffer.h"
#include "runtime/device_context.h"

namespace unipool {

class HostMirror {
 public:
  // device null: arrays are host memory, each its own mirror; then Download and Upload do nothing. The device
  // must outlive it.
  explicit HostMirror(DeviceContext* device) : device_(device) {}

  // Mirrors a contiguous array; its host memory holds zeros at first, and becomes memory as it is touched.
  void Add(const Tensor& array);
  // Where a part of an added array lies on the host.
  Tensor HostOf(const Tensor& part) const;

  // All arrays. Both wait until it is done; between steps only.
  void Download();
  void Upload();

 private:
  struct Array {
    char* data;
    int64_t bytes;
    Buffer host;
  };
  DeviceContext* device_;
  MemoryMeter meter_;  // the host's; what a rank reports is the device's
  std::vector<Array> arrays_;
};

}  // namespace unipool
