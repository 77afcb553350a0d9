// How the experts of a run are kept evenly used: the settings and sizes that the parts of ExpertUse share.
#pragma once

#include <cstdint>

#include "configs/config.pb.h"
#include "models/visibility.h"
#include "runtime/tensor.h"

namespace unipool {

struct BalanceOptions {
  Balance::Value balance = Balance::POOL_LOSS;
  BalanceScope::Value scope = BalanceScope::STEP;
  double coeff = 0.01;  // alpha. With BIAS: the change of a bias per step
  BalanceCounts::Value counts = BalanceCounts::ALL;
  bool hinge = false;
  BiasScope::Value bias_scope = BiasScope::POOL;
  int64_t tokens_per_microbatch = 0;  // T
  int64_t data_ranks = 1;             // ranks that run microbatches of their own
  int64_t microbatches_per_rank = 0;  // B
  // The most microbatches between a microbatch's forward and its backward on a stage.
  int64_t microbatches_in_flight = 2;
  // Tokens of a step, over all ranks.
  int64_t tokens_per_step() const { return tokens_per_microbatch * data_ranks * microbatches_per_rank; }
};

// What one layer chose in one microbatch, in the host's memory.
struct LayerChoices {
  Tensor all;           // [M] I64
  Tensor positive;      // [M] I64, of them those with a positive score: the rows that are sent
  int64_t num_off = 0;  // tokens without a positive choice

  // What `counts` calls use of an expert.
  const Tensor& Counted(BalanceCounts::Value counts) const {
    return counts == BalanceCounts::POSITIVE ? positive : all;
  }
};

}  // namespace unipool
