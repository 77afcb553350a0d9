// The small model of placement_bench: 8 layers, 32 experts, top 1, and what it is trained on.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/training_engine.h"

namespace unipool {

inline constexpr int kVocab = 256, kLayers = 8, kExperts = 32, kSequence = 128;

// microbatches: of each rank. micro_batch: sequences. shadows: room of each rank.
Config PlacementConfig(int ranks, int stages, int microbatches, int micro_batch, int shadows);

// This rank's samples of a step. `tokens` is their memory.
Tensor SamplesOf(const TrainingEngine& engine, const Config& config, int64_t step,
                 std::vector<int32_t>& tokens);

// All weights of the model, by name.
using Weights = std::map<std::string, std::vector<char>>;
void CopyIn(const Weights& weights, const TrainingEngine& engine);

Weights Train(int steps);
// All tokens have a direction in common, so every layer's router leans towards experts of its own.
Weights LeaningRouters();

// Level routing. With these weights, in all layers, token t < kSequence chooses expert t % kExperts, and
// others choose none. With these samples each expert gets equally many rows of a slot, or one less, and
// consecutive blocks of experts get equally many. Where a microbatch has 4 sequences, or 8, ..., two tokens
// of each choose none: 1.6 %, about as many as in the trained model.
Weights LevelRouters(Weights weights);
Tensor LevelSamples(const TrainingEngine& engine, const Config& config, std::vector<int32_t>& tokens);

// Writes model.safetensors, for train.init_from; text.txt, 4096 sequences that no step trains on, a byte a
// token; and model.txtpb, settings with which `unipool train` does 8 steps with them that change next to
// nothing, and records the exchanges of some.
void WriteFolder(const std::string& folder, const Weights& weights);

}  // namespace unipool
