// A model in memory, ready to be measured on texts: on one rank of the CPU, a sequence at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launcher/data/token_dataset.h"
#include "launcher/experts/saved_model.h"
#include "models/training_engine.h"
#include "runtime/world.h"

namespace unipool {

class MeasuredModel {
 public:
  // Copies the weights. `seq_length`: of the sequences; 0: the model's. kTrain has gradients, and nothing
  // updates the weights. The world has one rank and outlives it.
  MeasuredModel(const SavedModel& model, int64_t seq_length, EngineMode mode, World& world);

  TrainingEngine& engine() { return engine_; }
  // All of a source, in order (data.train has what a source is). Throws UserError as OpenDataset.
  std::unique_ptr<TokenDataset> Open(const std::string& source) const;
  // One sequence of it as the engine takes it, [1, 1, s + 1]; valid until the next call.
  Tensor Sequence(const TokenDataset& dataset, int64_t sequence);

 private:
  Config config_;
  TrainingEngine engine_;
  std::vector<int32_t> tokens_;
};

}  // namespace unipool
