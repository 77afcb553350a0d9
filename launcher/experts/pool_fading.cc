#include "launcher/experts/pool_fading.h"

#include "models/routing_probe.h"

namespace unipool {

std::string PoolFading::BeginStep(int64_t step) {
  if (!fading_.Apply(step)) return "";
  const MoeConfig& moe = config_.moe();
  return Format("%d of %d experts stay (%s); the others fade until step %d", moe.shrink_to(), moe.experts(),
                ShrinkBy::Value_Name(moe.shrink_by()).c_str(), moe.shrink_end());
}

std::string PoolFading::LastWords() const {
  const MoeConfig& moe = config_.moe();
  return Format("the pool shrinks from %d to %d experts; %s/pools/experts-%d keeps them all", moe.experts(),
                moe.shrink_to(), config_.run_dir().c_str(), moe.experts());
}

double PoolFading::LossSum(int64_t step, const Tensor& samples, int64_t sequences) {
  if (!IsOver(step)) return engine_.EvaluateLossSum(samples, sequences);
  EngineParts& parts = engine_.parts();
  RoutingProbe routing(parts.spec, fading_.Kept(), parts.place.device());
  parts.model.SetProbe(&routing);
  const double sum = engine_.EvaluateLossSum(samples, sequences);
  parts.model.SetProbe(nullptr);
  routing.Reduce(world_);
  norm_ratios_.clear();
  for (int layer = 0; layer < parts.spec.layers; ++layer) norm_ratios_.push_back(routing.norm_ratio(layer));
  return sum;
}

void PoolFading::AddTo(nlohmann::json& training_state) const {
  if (!norm_ratios_.empty()) training_state["norm_ratios"] = norm_ratios_;
}

}  // namespace unipool
