#include "models/model_spec.h"

#include <map>

#include "models/settings.h"
#include "runtime/range.h"

namespace unipool {

namespace {

// Blocks of consecutive layers that balance the use of their experts together.
int NumBlocks(const MoeConfig& moe, int layers) {
  switch (moe.sharing()) {
    case Sharing::GLOBAL:
    case Sharing::SLIDING:
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

// Bands begin at even distances from expert 0 on, and the last one ends with the pool. They do not wrap,
// since the first and the last layer do not do the same.
Range BandOf(const MoeConfig& moe, int64_t layers, int layer) {
  const int64_t free = moe.experts() - moe.band();
  const int64_t begin = layers > 1 ? free * layer / (layers - 1) : 0;
  return {begin, begin + moe.band()};
}

Range ExpertsOf(const MoeConfig& moe, int layers, int layer) {
  if (moe.sharing() == Sharing::SLIDING) return BandOf(moe, layers, layer);
  const int blocks = NumBlocks(moe, layers);
  return EvenPartition(moe.experts(), blocks, BlockOf(layers, blocks, layer));
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
    const Range experts = ExpertsOf(moe, static_cast<int>(spec.layers), layer);
    std::vector<float> visible(spec.experts, 0.f);
    for (int64_t i = experts.begin; i < experts.end; ++i) visible[i] = 1.f;
    spec.visible.push_back(std::move(visible));
    spec.balance_group.push_back(BlockOf(spec.layers, blocks, layer));
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
