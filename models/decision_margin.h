// How decided a model is behind each layer: its final norm and head read the hidden states there (the logit
// lens), on data whose next tokens are known. For each layer, over tokens:
//
//   margin = logit of the next token - largest logit of any other token     nats; > 0: it would be predicted
//
// Two phases of depth can be told by it: layers before which the right token is not yet ahead, and layers
// behind it that a model loses least by (arXiv 2605.07271 has the margin on multiple-choice items).
#pragma once

#include <vector>

#include "models/forward_probe.h"
#include "models/host_reader.h"
#include "models/model_spec.h"
#include "runtime/communicator.h"
#include "runtime/stream.h"

namespace unipool {

// Weights of a model's output, on every rank: norm [D] and head [V, D] in F32.
struct OutputWeights {
  std::vector<float> norm, head;
};

class DecisionMargin : public ForwardProbe {
 public:
  // `spec` must outlive it. It computes on the CPU. `device`: of the hidden states, or null.
  DecisionMargin(const ModelSpec& spec, OutputWeights weights, DeviceContext* device);

  void Routed(int, const Router::Saved&, int64_t) override {}
  void Left(int layer, const Tensor& hidden, const Tensor& targets, int64_t tokens) override;

  // What was counted becomes the sum over all ranks. Collective.
  void Reduce(Communicator& world);

  double mean(int layer) const { return margins_[layer] / tokens_[layer]; }       // nats
  double share_ahead(int layer) const { return ahead_[layer] / tokens_[layer]; }  // of tokens with margin > 0

 private:
  void AddRows(int layer, const Tensor& logits, const double* targets);
  const ModelSpec& spec_;
  OutputWeights weights_;
  HostReader reader_;
  MemoryMeter memory_;
  Stream stream_;
  std::vector<double> margins_, ahead_, tokens_;
};

}  // namespace unipool
