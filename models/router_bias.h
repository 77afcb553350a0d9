// The bias of DeepSeek's balancing without a loss (arXiv 2408.15664): each balance group has one number per
// expert, which is added to the scores for the choice alone. After every step an expert with fewer choices
// than the group's mean gets `coeff` more, an expert with more choices gets `coeff` less.
#pragma once

#include <span>
#include <vector>

#include "models/balance_options.h"
#include "models/parameter.h"
#include "runtime/stream.h"

namespace unipool {

class RouterBias {
 public:
  // `dtype` is the type of the router's numbers. `memory` counts the memory of the stream's device.
  RouterBias(const ModelSpec& spec, const BalanceOptions& options, DType dtype, Stream& stream,
             MemoryMeter& memory);

  Tensor of(int layer) const;  // [M] on the stream's device; empty unless BIAS

  // Of a finished step: counts [groups * M] over all ranks. Nothing unless BIAS.
  void Update(std::span<const double> group_counts);

  // The biases as disk tensors of the host, one per layer of [begin, end); none unless BIAS. Send, after they
  // were written, brings them to the stream's device.
  std::vector<DiskTensor> DiskTensors(Range layers) const;
  void Send();

 private:
  int64_t size() const { return spec_.num_balance_groups * spec_.experts; }
  bool is_on() const { return options_.balance == Balance::BIAS; }
  const ModelSpec& spec_;
  BalanceOptions options_;
  Stream& stream_;
  std::vector<BalanceGroup> groups_;
  MemoryMeter host_memory_;
  Buffer device_buffer_, host_buffer_;
  Tensor device_bias_, host_bias_;  // [groups, M]
  std::vector<double> sent_;        // [groups * M] on the way to the device
};

}  // namespace unipool
