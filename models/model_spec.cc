#include "models/model_spec.h"

#include <map>

#include "models/settings.h"
#include "runtime/range.h"

namespace unipool {

namespace {

// Blocks of consecutive layers that share a block of experts.
int NumBlocks(const MoeConfig& moe, int layers) {
  switch (moe.sharing()) {
    case Sharing::GLOBAL:
      return 1;
    case Sharing::GROUPED:
      return moe.groups();
    case Sharing::PRIVATE:
    case Sharing::DENSE:
      return layers;
  }
  LOG(FATAL) << "unknown sharing " << moe.sharing();
}

int BlockOf(int64_t n, int blocks, int64_t i) {
  for (int b = 0; b < blocks; ++b) {
    if (i < EvenPartition(n, blocks, b).end) return b;
  }
  LOG(FATAL) << "index " << i << " of " << n;
}

}  // namespace

int64_t ModelSpec::num_visible(int layer) const {
  int64_t count = 0;
  for (float v : visible[layer]) count += v > 0;
  return count;
}

AttentionShape ModelSpec::attention(int64_t num_sequences) const {
  return {.num_sequences = num_sequences,
          .sequence_length = seq_length,
          .num_heads = heads,
          .num_kv_heads = kv_heads,
          .head_size = head_size()};
}

ModelSpec MakeModelSpec(const Config& config) {
  const ModelConfig& model = config.model();
  const MoeConfig& moe = config.moe();
  ModelSpec spec;
  spec.layers = model.layers();
  spec.hidden = model.hidden();
  spec.seq_length = model.seq_length();
  spec.vocab = model.vocab();
  const int64_t multiple = model.vocab_multiple();
  spec.padded_vocab = (spec.vocab + multiple - 1) / multiple * multiple;
  spec.heads = model.heads();
  spec.kv_heads = model.kv_heads();
  spec.experts = moe.experts();
  spec.top_k = moe.top_k();
  spec.expert_width = moe.width();
  spec.rope_base = model.rope_base();
  spec.norm_eps = model.norm_eps();
  spec.init_std = model.init_std();
  spec.has_router = moe.sharing() != Sharing::DENSE;
  spec.router = RouterKindOf(moe.router());

  const int blocks = NumBlocks(moe, spec.layers);
  spec.num_balance_groups = blocks;
  std::map<int64_t, double> constants;  // by number of visible experts
  for (int layer = 0; layer < spec.layers; ++layer) {
    const int block = BlockOf(spec.layers, blocks, layer);
    const Range experts = EvenPartition(spec.experts, blocks, block);
    std::vector<float> visible(spec.experts, 0.f);
    for (int64_t i = experts.begin; i < experts.end; ++i) visible[i] = 1.f;
    spec.visible.push_back(std::move(visible));
    spec.balance_group.push_back(block);
    double c = 1;
    if (spec.has_router && HasSigma(spec.router)) {
      c = moe.router_constant();
      if (c == 0) {
        auto [entry, is_new] = constants.try_emplace(experts.size(), 0);
        if (is_new) entry->second = RouterConstant(experts.size(), spec.top_k);
        c = entry->second;
      }
    }
    spec.router_constant.push_back(c);
  }
  return spec;
}

}  // namespace unipool
