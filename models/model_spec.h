// The model family's data model, resolved from a configuration: sizes, which layer may use which expert, and
// which layers share a balancing statistic. UniPool, vanilla MoE, grouped pools and dense models differ in
// these numbers alone; no code asks which of them it runs (models/POOL_LOSS.md, "One data model for the
// family").
#pragma once

#include <vector>

#include "configs/config.pb.h"
#include "kernels/attention.h"
#include "kernels/router_scores.h"
#include "parallel/mesh.h"

namespace unipool {

struct ModelSpec {
  int64_t layers = 0, hidden = 0, seq_length = 0;    // L, D, s
  int64_t vocab = 0, padded_vocab = 0;               // tokens; rows of embedding and head, V
  int64_t heads = 0, kv_heads = 0;                   // H, G
  int64_t experts = 0, top_k = 0, expert_width = 0;  // M, K, F
  double rope_base = 0, norm_eps = 0, init_std = 0;
  bool has_router = true;  // false: one expert per layer with weight 1 (dense)
  RouterKind router = RouterKind::kNorm;
  std::vector<std::vector<float>> visible;  // [L][M] in 0..1
  std::vector<double> router_constant;      // [L] c of NormRouter, from the experts the layer sees
  std::vector<int> balance_group;           // [L]
  int num_balance_groups = 0;

  int64_t head_size() const { return hidden / heads; }
  int64_t qkv_size() const { return (heads + 2 * kv_heads) * head_size(); }
  int64_t num_visible(int layer) const;
  AttentionShape attention(int64_t num_sequences) const;
};

// REQUIRES: the configuration is valid.
ModelSpec MakeModelSpec(const Config& config);

}  // namespace unipool
