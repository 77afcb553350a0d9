#include "launcher/interop/measured_model.h"

#include <algorithm>

#include "launcher/config.h"

namespace unipool {
namespace {

Config Alone(const SavedModel& model, int64_t seq_length) {
  Config config;
  *config.mutable_model() = model.config.model();
  *config.mutable_moe() = model.config.moe();
  if (seq_length > 0) config.mutable_model()->set_seq_length(static_cast<int32_t>(seq_length));
  config.mutable_train()->set_global_batch(1);
  config.mutable_train()->set_micro_batch(1);
  ValidateConfig(config, 1);
  return config;
}

}  // namespace

MeasuredModel::MeasuredModel(const SavedModel& model, int64_t seq_length, EngineMode mode, World& world)
    : config_(Alone(model, seq_length)), engine_(config_, world, {.mode = mode}) {
  for (const DiskTensor& tensor : engine_.state().ModelTensors()) {
    const auto found = model.weights.find(tensor.name);
    if (found == model.weights.end()) {
      CHECK(tensor.optional) << tensor.name;
      continue;
    }
    const std::vector<float>& values = found->second.values[0];
    CHECK_EQ(static_cast<int64_t>(values.size()), tensor.value.size()) << tensor.name;
    std::copy(values.begin(), values.end(), tensor.value.as<float>());
  }
  engine_.state().WeightsLoaded();
}

std::unique_ptr<TokenDataset> MeasuredModel::Open(const std::string& source) const {
  return OpenDataset({.train = {source},
                      .split = "1,0,0",
                      .sequential = true,
                      .seq_length = config_.model().seq_length(),
                      .vocab = config_.model().vocab()},
                     Split::kTrain);
}

Tensor MeasuredModel::Sequence(const TokenDataset& dataset, int64_t sequence) {
  tokens_.resize(config_.model().seq_length() + 1);
  dataset.Read(sequence, tokens_);
  return Tensor(tokens_.data(), DType::kI32, {1, 1, static_cast<int64_t>(tokens_.size())});
}

}  // namespace unipool
