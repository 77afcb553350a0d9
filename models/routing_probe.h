// What an evaluation counts of the choices of experts, for each layer and expert. A choice with score 0 is no
// use of an expert.
#pragma once

#include <vector>

#include "models/forward_probe.h"
#include "models/host_reader.h"
#include "models/model_spec.h"
#include "runtime/communicator.h"

namespace unipool {

class RoutingProbe : public ForwardProbe {
 public:
  // `kept`: ascending experts, for norm_ratio; empty: it is not counted. `device`: of the tensors, or null.
  RoutingProbe(const ModelSpec& spec, std::vector<int64_t> kept, DeviceContext* device);

  void Routed(int layer, const Router::Saved& router, int64_t tokens) override;
  void Left(int, const Tensor&, const Tensor&, int64_t) override {}

  // What was counted becomes the sum over all ranks. Collective.
  void Reduce(Communicator& world);

  const std::vector<double>& counts() const { return counts_; }  // [L * M] choices with a positive score
  const std::vector<double>& mass() const { return mass_; }      // [L * M] sum of their scores
  double tokens(int layer) const { return tokens_[layer]; }
  // Mean over tokens of |logits of the kept experts| / |logits of all that the layer sees|; 1 without logits.
  double norm_ratio(int layer) const;

 private:
  void AddNorms(int layer, const Tensor& logits, int64_t tokens);
  const ModelSpec& spec_;
  std::vector<bool> is_kept_;  // [M], or empty
  HostReader reader_;
  std::vector<double> counts_, mass_, tokens_, ratio_sums_;
};

}  // namespace unipool
