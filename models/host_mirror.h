// Host memory for what a rank keeps on its device between steps: master weights and moments, as files hold
// them. Files are read into and written from host memory alone, so that checkpoints know no device.
#pragma once

#include <vector>

#include "runtime/buffer.h"
#include "runtime/device_context.h"

namespace unipool {

class HostMirror {
 public:
  // `device` must outlive the mirror. Null: arrays are host memory, each is its own mirror, and Download and
  // Upload do nothing.
  explicit HostMirror(DeviceContext* device) : device_(device) {}

  // Mirrors a contiguous array. Its host memory holds zeros at first and takes pages as it is touched.
  void Add(const Tensor& array);
  // Where a part of an added array lies on the host.
  Tensor HostOf(const Tensor& part) const;

  // Copy all arrays to the host, or back to the device. Both wait until it is done. Between steps only.
  void Download();
  void Upload();

 private:
  struct Array {
    char* data;
    int64_t bytes;
    Buffer host;
  };
  DeviceContext* device_;
  MemoryMeter meter_;  // of the mirrors; what a rank reports is the memory of its device
  std::vector<Array> arrays_;
};

}  // namespace unipool
