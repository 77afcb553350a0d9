// What checkpoints hold of a rank, in three lists by name (models/parameter.h), all in host memory: weights,
// moments, and the state between steps. Files are read and written by the launcher.
#pragma once

#include <vector>

#include "models/engine_parts.h"
#include "models/host_mirror.h"

namespace unipool {

class EngineState {
 public:
  // The parts must outlive it. Their weights get the initial values of train.seed.
  explicit EngineState(EngineParts& parts);

  // To write: Collect (collective over the world), then read the tensors of the lists.
  void Collect();
  std::vector<DiskTensor> Weights() const;       // and aux-free biases
  std::vector<DiskTensor> ModelTensors() const;  // Weights, and what layers may choose (visibility.h)
  std::vector<OptimizerPiece> Moments() const;   // REQUIRES: the parts have an optimizer
  std::vector<DiskTensor> BetweenSteps() const;  // shares, owners, the lock, importance

  // To load weights alone: write into the tensors of ModelTensors(), then WeightsLoaded. It throws the same
  // UserError on all ranks where they hold what cannot be.
  void WeightsLoaded();
  // To load everything: write into the tensors of all three lists, then AllLoaded. It may move experts, so
  // the lists that were asked for before are no longer valid. Collective over the world.
  void AllLoaded();

 private:
  void InitializeWeights();
  EngineParts& parts_;
  HostMirror mirror_, moments_mirror_;  // of master weights; of moments, which begin as zeros on the device
};

}  // namespace unipool
