// What each layer may use of the pool now. ModelSpec::visible says what the settings give a layer for good:
// an expert with 0 there has no logit in it. The attenuation, here, takes experts away from a layer during a
// run (models/lock/LOCK.md, shrinking a pool): its factor in [0, 1] multiplies the expert's score after the
// norm (kernels/router_scores.h). 1 changes nothing; 0 also bars the expert from being chosen.
//
// It changes between steps, on all ranks alike. ExpertUse::VisibilityChanged then tells everyone who keeps
// something of it:
//   VisibleExperts            the copy on the device, which routers read
//   BalanceLoss, RouterBias   over how many experts balance is sought
//   LoadStatistics            which experts can be dead, and the mean load
// Three do not change by it. NormRouter's constant belongs to the logits in the norm, which stay. Balance
// groups are of layers. The placement follows the counts, or whoever knows them beforehand calls
// ExpertReplacer.
#pragma once

#include <span>
#include <vector>

#include "models/model_spec.h"
#include "models/parameter.h"

namespace unipool {

class Visibility {
 public:
  // `spec` must outlive it. Every layer may use what it sees.
  explicit Visibility(const ModelSpec& spec);

  std::span<const float> of(int layer) const;  // [M] factors; 0 where spec.visible is 0
  bool may_choose(int layer, int64_t expert) const { return of(layer)[expert] > 0; }
  int64_t num_choosable(int layer) const;
  // No factor of the layer differs from what the settings say; none of any layer.
  bool is_as_set(int layer) const;
  bool is_as_set() const;

  // Factors [M] of a layer from now on; where spec.visible is 0 they stay 0. REQUIRES: top_k of them are
  // positive.
  void Set(int layer, std::span<const float> factors);
  void Reset();  // every layer may use what it sees

  // One tensor [M] for each layer of the model, on every rank: model.layers.N.mlp.router.attenuation. Those
  // that are as set are `implied`. CheckLoaded, after they were written, throws UserError for numbers that
  // cannot be; the same on all ranks.
  std::vector<DiskTensor> DiskTensors();
  void CheckLoaded() const;

 private:
  float* row(int layer) { return factors_.data() + layer * spec_.experts; }
  const ModelSpec& spec_;
  std::vector<float> factors_;  // [L * M]
};

// Layers that share one balancing statistic.
struct BalanceGroup {
  int64_t layers = 0;
  std::vector<bool> chooses;  // [M]: one of its layers may choose the expert
  int64_t experts = 0;        // of these
};
// By the numbers in spec.balance_group.
std::vector<BalanceGroup> BalanceGroupsOf(const ModelSpec& spec, const Visibility& visibility);

}  // namespace unipool
