#include "models/engine_state.h"

#include "models/stage_layers.h"

namespace unipool {

EngineState::EngineState(EngineParts& parts)
    : parts_(parts), mirror_(parts.place.device()), moments_mirror_(parts.place.device()) {
  for (DenseParameters* dense : {&parts.model.parameters(), &parts.model.head_parameters()}) {
    if (dense->num_elements() > 0) mirror_.Add(dense->flat_master());
  }
  mirror_.Add(parts.experts.flat_master());
  if (parts.optimizer) moments_mirror_.Add(parts.optimizer->flat_moments());
  InitializeWeights();
}

void EngineState::InitializeWeights() {
  const uint64_t seed = parts_.config.train().seed();
  for (const DenseParameters* dense : {&parts_.model.parameters(), &parts_.model.head_parameters()}) {
    if (dense->num_elements() > 0) dense->Initialize(seed, mirror_.HostOf(dense->flat_master()));
  }
  std::vector<DiskTensor> experts = parts_.experts.DiskTensors(parts_.experts.master());
  for (DiskTensor& tensor : experts) tensor.value = mirror_.HostOf(tensor.value);
  parts_.experts.Initialize(seed, experts);
  WeightsLoaded();
}

void EngineState::Collect() {
  parts_.use.shares.CollectState();
  mirror_.Download();
  moments_mirror_.Download();
}

std::vector<DiskTensor> EngineState::Weights() const {
  std::vector<DiskTensor> list;
  const MeshPosition& position = parts_.mesh.position();
  const bool writes_dense = position.replica == 0 && position.data == 0;
  const auto add = [&](const DenseParameters& dense, bool writes) {
    for (const DenseParameter& parameter : dense.list()) {
      const Range elements = parameter.elements;
      list.push_back({.name = parameter.name,
                      .shape = parameter.shape,
                      .value = mirror_.HostOf(dense.flat_master().Rows(elements.begin, elements.size())),
                      .writes = writes});
    }
  };
  add(parts_.model.parameters(), writes_dense);
  // All ranks have the weight of a spread head; the last stage writes it, as it writes its own.
  const bool is_last = position.stage == parts_.mesh.shape().stages - 1;
  add(parts_.model.head_parameters(), writes_dense && is_last);
  const Range layers = LayersOfStage(parts_.layers_per_stage, position.stage);
  for (DiskTensor& tensor : parts_.use.bias.DiskTensors(layers)) {
    tensor.writes = writes_dense;
    list.push_back(std::move(tensor));
  }
  for (DiskTensor& tensor : parts_.experts.DiskTensors(parts_.experts.master())) {
    tensor.value = mirror_.HostOf(tensor.value);
    tensor.writes = parts_.mesh.replicas().rank() == 0;
    list.push_back(std::move(tensor));
  }
  return list;
}

std::vector<DiskTensor> EngineState::ModelTensors() const {
  std::vector<DiskTensor> list = Weights();
  const MeshPosition& position = parts_.mesh.position();
  const Range layers = LayersOfStage(parts_.layers_per_stage, position.stage);
  int64_t layer = 0;
  for (DiskTensor& tensor : parts_.use.visibility.DiskTensors()) {
    tensor.writes =
        position.replica == 0 && position.data == 0 && layer >= layers.begin && layer < layers.end;
    list.push_back(std::move(tensor));
    ++layer;
  }
  return list;
}

std::vector<OptimizerPiece> EngineState::Moments() const {
  std::vector<OptimizerPiece> pieces = parts_.optimizer->Pieces();
  for (OptimizerPiece& piece : pieces) {
    piece.first_moment = moments_mirror_.HostOf(piece.first_moment);
    piece.second_moment = moments_mirror_.HostOf(piece.second_moment);
  }
  return pieces;
}

std::vector<DiskTensor> EngineState::BetweenSteps() const {
  std::vector<DiskTensor> list = parts_.use.shares.State();
  for (DiskTensor& tensor : parts_.replacer.State()) list.push_back(std::move(tensor));
  if (parts_.use.lock) {
    for (DiskTensor& tensor : parts_.use.lock->State()) list.push_back(std::move(tensor));
  }
  for (DiskTensor& tensor : parts_.use.history.State()) list.push_back(std::move(tensor));
  for (DiskTensor& tensor : list) tensor.writes = parts_.mesh.world().rank() == 0;
  return list;
}

void EngineState::WeightsLoaded() {
  mirror_.Upload();
  for (DenseParameters* dense : {&parts_.model.parameters(), &parts_.model.head_parameters()}) {
    if (dense->num_elements() > 0) dense->RefreshCompute(parts_.place.stream());
  }
  parts_.experts.RefreshCompute();
  parts_.use.bias.Send();
  parts_.use.visibility.CheckLoaded();
  parts_.use.VisibilityChanged();
}

void EngineState::AllLoaded() {
  WeightsLoaded();
  moments_mirror_.Upload();
  parts_.use.shares.StateLoaded();
  parts_.replacer.StateLoaded();
  if (parts_.use.lock) parts_.use.lock->StateLoaded();
}

}  // namespace unipool
