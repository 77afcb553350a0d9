#include "models/saved_layers.h"

namespace unipool {

SavedLayers::SavedLayers(const ModelSpec& spec, const SavedLayersOptions& options,
                         const ExpertPlacement& placement, MemoryMeter& memory)
    : spec_(spec),
      options_(options),
      placement_(placement),
      memory_(memory),
      tokens_(options.tokens),
      taken_(options.max_in_flight * options.num_layers) {
  if (options.recompute_attention) {
    const int64_t bytes = AttentionLayer::InternalBytes(spec, options.tokens, options.dtype);
    internals_buffer_ = Buffer::Allocate(memory, MemoryKind::kScratch, bytes);
    PlaceInternals();
  }
  if (options.num_pieces > 0) AddPieces(options.num_pieces);
}

void SavedLayers::PlaceInternals() {
  AttentionLayer::PlaceInternals(spec_, tokens_, options_.dtype, static_cast<char*>(internals_buffer_.data()),
                                 internals_);
}

void SavedLayers::SetTokens(int64_t tokens) {
  if (tokens == tokens_) return;
  CHECK_LE(tokens, options_.tokens);
  CHECK_EQ(free_.size(), pieces_.size()) << "pieces are held";
  tokens_ = tokens;
  if (options_.recompute_attention) PlaceInternals();
  for (const auto& piece : pieces_) piece->SetTokens(tokens, internals());
}

LayerSaved& SavedLayers::Of(int microbatch, int layer) {
  LayerSaved*& saved = At(microbatch, layer);
  if (!saved) {
    if (free_.empty()) AddPieces(1);
    saved = free_.back();
    free_.pop_back();
  }
  return *saved;
}

void SavedLayers::Release(int microbatch, int layer) {
  LayerSaved*& saved = At(microbatch, layer);
  free_.push_back(saved);
  saved = nullptr;
}

LayerSaved*& SavedLayers::At(int microbatch, int layer) {
  return taken_[microbatch % options_.max_in_flight * options_.num_layers + layer];
}

void SavedLayers::AddPieces(int64_t count) {
  const bool keeps_internals = !options_.recompute_attention;
  const int64_t bytes = LayerSaved::Bytes(spec_, options_.tokens, options_.dtype, keeps_internals,
                                          placement_.num_places() - placement_.num_experts());
  buffers_.push_back(Buffer::Reserve(memory_, MemoryKind::kActivations, count * bytes));
  buffers_.back().Use(count * bytes);
  char* const base = static_cast<char*>(buffers_.back().data());
  for (int64_t i = 0; i < count; ++i) {
    pieces_.push_back(std::make_unique<LayerSaved>(spec_, tokens_, placement_, options_.dtype, internals(),
                                                   options_.device, base + i * bytes));
    free_.push_back(pieces_.back().get());
  }
  free_.reserve(pieces_.size());
}

}  // namespace unipool
