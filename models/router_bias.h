// The bias of DeepSeek's balancing without a loss (arXiv 2408.15664): a number per expert, which is added to
// the scores for the choice alone. After every step an expert with fewer choices than the mean gets `coeff`
// more, an expert with more choices gets `coeff` less. The layers of a balance group share their numbers and
// their choices (moe.bias_scope POOL), or each layer has its own (LAYER).
#pragma once

#include <span>
#include <vector>

#include "kernels/top_k.h"
#include "models/balance_options.h"
#include "models/parameter.h"
#include "runtime/stream.h"

namespace unipool {

class RouterBias {
 public:
  // `dtype` is the type of the router's numbers. `memory` counts the memory of the stream's device.
  RouterBias(const ModelSpec& spec, const BalanceOptions& options, DType dtype, Stream& stream,
             MemoryMeter& memory);

  // Between steps: which experts layers may choose has changed.
  void SetVisibility(const Visibility& visibility);

  Tensor of(int layer) const;  // [M] on the stream's device; empty unless BIAS

  // With moe.balance_counts POSITIVE the bias moves the choice among positive scores alone: a choice that is
  // not counted must not be one that the bias has made.
  BiasReach reach() const {
    const bool is_positive = is_on() && options_.counts == BalanceCounts::POSITIVE;
    return is_positive ? BiasReach::kPositiveScores : BiasReach::kEveryScore;
  }

  // Of a finished step: counts [L * M] over all ranks. Nothing unless BIAS.
  void Update(std::span<const double> layer_counts);

  // The biases as disk tensors of the host, one per layer of [begin, end); none unless BIAS. Their names tell
  // the scopes apart: a stage that read several layers' biases into one vector would keep the last of them.
  // Send, after they were written, brings them to the stream's device.
  std::vector<DiskTensor> DiskTensors(Range layers) const;
  void Send();

 private:
  int64_t num_rows() const;
  int64_t RowOf(int64_t layer) const;
  void Count(std::span<const double> layer_counts);
  int64_t size() const { return num_rows() * spec_.experts; }
  bool is_on() const { return options_.balance == Balance::BIAS; }
  const ModelSpec& spec_;
  BalanceOptions options_;
  Stream& stream_;
  MemoryMeter host_memory_;
  Buffer device_buffer_, host_buffer_;
  Tensor device_bias_, host_bias_;  // [rows, M]; a row is a balance group's, or with LAYER a layer's
  std::vector<double> sent_;        // [rows * M] on the way to the device
  std::vector<double> counts_;      // [rows * M] of the last step
  std::vector<bool> is_seen_;       // [rows * M]: one of the row's layers may choose the expert
};

}  // namespace unipool
