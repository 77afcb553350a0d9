// The memory in which the layers of a stage keep what their backward needs. A piece belongs to one
// (microbatch, layer) from its first use until it is released, and then to the next that asks.
#pragma once

#include <memory>
#include <vector>

#include "models/layer_saved.h"

namespace unipool {

struct SavedLayersOptions {
  DType dtype = DType::kF32;
  int64_t tokens = 0;         // T of a microbatch, at most
  int64_t num_layers = 0;     // of the stage
  int64_t max_in_flight = 2;  // microbatches that hold pieces at one time; their numbers follow one another
  int64_t num_pieces = 0;     // for which memory is taken at once; more are taken one by one
  // Of a layer's attention only the input is kept; all layers use one memory for the rest.
  bool recompute_attention = false;
  DeviceContext* device = nullptr;  // null: the CPU
};

class SavedLayers {
 public:
  // `memory` counts the memory of the device. Spec and placement must outlive it.
  SavedLayers(const ModelSpec& spec, const SavedLayersOptions& options, const ExpertPlacement& placement,
              MemoryMeter& memory);

  // Microbatches have so many tokens from now on, options.tokens at most. REQUIRES: all pieces are released.
  void SetTokens(int64_t tokens);

  LayerSaved& Of(int microbatch, int layer);  // takes a piece at first use
  void Release(int microbatch, int layer);

 private:
  LayerSaved*& At(int microbatch, int layer);
  void PlaceInternals();
  const AttentionLayer::Saved* internals() const {
    return options_.recompute_attention ? &internals_ : nullptr;
  }
  void AddPieces(int64_t count);

  const ModelSpec& spec_;
  SavedLayersOptions options_;
  const ExpertPlacement& placement_;
  MemoryMeter& memory_;
  int64_t tokens_;  // of a microbatch, now
  Buffer internals_buffer_;
  AttentionLayer::Saved internals_;  // of the layer that runs, with recompute_attention
  std::vector<Buffer> buffers_;
  std::vector<std::unique_ptr<LayerSaved>> pieces_;
  std::vector<LayerSaved*> free_;
  std::vector<LayerSaved*> taken_;  // [in flight][layer]
};

}  // namespace unipool
