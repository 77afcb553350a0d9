#include "models/parameter_count.h"

#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/range.h"

namespace unipool {
namespace {

int64_t AttentionPerLayer(const ModelConfig& m) {
  const int64_t head_size = m.hidden() / m.heads();
  return 2 * (int64_t{m.heads()} + m.kv_heads()) * head_size * m.hidden();
}

int64_t RouterPerLayer(const Config& config) {
  const MoeConfig& moe = config.moe();
  if (moe.sharing() == Sharing::DENSE) return 0;
  return int64_t{moe.experts()} * config.model().hidden() + HasSigma(RouterKindOf(moe.router()));
}

int64_t PerExpert(const Config& config) {
  return int64_t{3} * config.moe().width() * config.model().hidden();
}

void AddLayers(const Config& config, int64_t layers, ParameterCount& count) {
  count.attention += layers * AttentionPerLayer(config.model());
  count.router += layers * RouterPerLayer(config);
  count.norms += layers * 2 * config.model().hidden();
}

}  // namespace

int64_t PaddedVocab(const ModelConfig& model) {
  const int64_t multiple = model.vocab_multiple();
  return (model.vocab() + multiple - 1) / multiple * multiple;
}

ParameterCount CountParameters(const Config& config) {
  return CountParametersOfRank(config, MeshShape{}, 0);
}

int64_t CountActiveParameters(const Config& config) {
  const int64_t chosen = int64_t{config.model().layers()} * config.moe().top_k();
  return CountParameters(config).dense() + chosen * PerExpert(config);
}

ParameterCount CountParametersOfRank(const Config& config, const MeshShape& shape, int rank) {
  const ModelConfig& m = config.model();
  const int pool_rank = rank % shape.pool(), stage = PositionOf(shape, rank).stage;
  ParameterCount count;
  AddLayers(config, LayersPerStage(config, shape)[stage], count);
  if (stage == 0) count.embedding = PaddedVocab(m) * m.hidden();
  const bool is_last = stage == shape.stages - 1;
  if (is_last) count.norms += m.hidden();
  if (is_last || HeadPlaceOf(config, shape) == HeadPlace::kSpread) count.head = PaddedVocab(m) * m.hidden();
  count.experts = EvenPartition(config.moe().experts(), shape.pool(), pool_rank).size() * PerExpert(config);
  return count;
}

}  // namespace unipool
