// Numbers that kernels left at the end of the compute queue, for the host. The host asks for several at once
// and waits for them once.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "runtime/device_context.h"
#include "runtime/tensor.h"

namespace unipool {

class NumberReader {
 public:
  // device null: numbers are host memory. The device must outlive it.
  NumberReader(DeviceContext* device, int64_t most_numbers);
  ~NumberReader();
  NumberReader(const NumberReader&) = delete;

  // Enqueues copies of these F64 tensors, one after another, most_numbers in all at most.
  void Start(std::initializer_list<Tensor> numbers);
  // Waits for what the last Start asked for. `label` says what the host waits for. Valid until the next
  // Start.
  std::span<const double> Finish(const ExchangeLabel& label);

 private:
  DeviceContext* device_;
  int64_t most_numbers_;
  std::vector<double> host_numbers_;
  double* numbers_;  // where the copies go: pinned memory on a device
  DeviceContext::Event copied_ = -1;
};

}  // namespace unipool
