// Reads tensors amid a forward pass as doubles of the host. On a device it waits for what was enqueued
// before, and only for that.
#pragma once

#include <vector>

#include "runtime/device_context.h"
#include "runtime/tensor.h"

namespace unipool {

class HostReader {
 public:
  // device null: tensors are host memory. The device must outlive it.
  explicit HostReader(DeviceContext* device);
  ~HostReader();
  HostReader(const HostReader&) = delete;

  // The first `rows` rows of an F32, F64, BF16, I32 or I64 tensor.
  std::vector<double> Read(const Tensor& tensor, int64_t rows);

 private:
  const void* OnHost(const Tensor& part);  // valid until the next call
  DeviceContext* device_;
  void* pinned_ = nullptr;  // of a device
  int64_t pinned_bytes_ = 0;
  DeviceContext::Event copied_ = -1;
};

}  // namespace unipool
