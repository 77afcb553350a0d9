#include "models/stage_layers.h"

#include <algorithm>

#include "models/output_head.h"
#include "models/parameter_count.h"
#include "models/settings.h"

namespace unipool {

StageWork EstimateWork(const Config& config) {
  const ModelConfig& m = config.model();
  const MoeConfig& moe = config.moe();
  const double tokens = double{1} * config.train().micro_batch() * m.seq_length(), d = m.hidden();
  const double head_size = d / m.heads(), heads = m.heads(), kv_heads = m.kv_heads();
  const double projections = 2 * (2 * heads + 2 * kv_heads) * head_size * d;
  const double quadratic = 2 * m.seq_length() * d;  // two products with s/2 positions on average
  const double router = moe.sharing() == Sharing::DENSE ? 0 : 2.0 * moe.experts() * d;
  const int64_t rows = PaddedVocab(m), all = int64_t{config.train().micro_batch()} * m.seq_length();
  const int64_t chunk = OutputHead::ChunkTokens(all, HeadTokens(config), DeviceOf(config));
  return {.dense = tokens * (projections + quadratic + router),
          .expert = tokens * moe.top_k() * 2 * 3 * moe.width() * d,
          .head = tokens * 2 * static_cast<double>(rows) * d,
          .head_chunks = static_cast<int>((all + chunk - 1) / chunk)};
}

std::vector<int> LayersPerStage(const Config& config, const MeshShape& shape) {
  const auto& given = config.parallel().layers_per_stage();
  if (!given.empty()) return {given.begin(), given.end()};
  return ChooseLayersPerStage(config.model().layers(), shape.stages, MicrobatchesPerRank(config, shape),
                              EstimateWork(config), shape.span, HeadPlaceOf(config, shape));
}

HeadPlace HeadPlaceOf(const Config& config, const MeshShape& shape) {
  if (shape.stages == 1) return HeadPlace::kLastStage;
  switch (config.parallel().head()) {
    case ParallelConfig::LAST_STAGE:
      return HeadPlace::kLastStage;
    case ParallelConfig::SPREAD:
      return HeadPlace::kSpread;
    case ParallelConfig::AUTO_HEAD:
      break;
  }
  if (DeviceOf(config) == Device::kCuda) return HeadPlace::kLastStage;
  const auto& given = config.parallel().layers_per_stage();
  return ChooseHeadPlace(config.model().layers(), shape.stages, MicrobatchesPerRank(config, shape),
                         EstimateWork(config), shape.span, {given.begin(), given.end()});
}

SlotSchedule TrainingSchedule(const Config& config, const MeshShape& shape) {
  return SlotSchedule(LayersPerStage(config, shape), MicrobatchesPerRank(config, shape),
                      /*forward_only=*/false, HeadPlaceOf(config, shape));
}

Config WithChoices(const Config& config, const MeshShape& shape) {
  Config chosen = config;
  const bool is_spread = HeadPlaceOf(config, shape) == HeadPlace::kSpread;
  chosen.mutable_parallel()->set_head(is_spread ? ParallelConfig::SPREAD : ParallelConfig::LAST_STAGE);
  const std::vector<int> layers = LayersPerStage(chosen, shape);
  chosen.mutable_parallel()->mutable_layers_per_stage()->Assign(layers.begin(), layers.end());
  return chosen;
}

Range LayersOfStage(const std::vector<int>& layers_per_stage, int stage) {
  Range range;
  for (int s = 0; s < stage; ++s) range.begin += layers_per_stage[s];
  range.end = range.begin + layers_per_stage[stage];
  return range;
}

}  // namespace unipool
