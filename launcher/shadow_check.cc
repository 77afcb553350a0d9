#include "launcher/shadow_check.h"

#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {

std::vector<std::string> ShadowProblems(const Config& config, int world_size) {
  const int64_t shadows = config.parallel().shadow_experts(), experts = config.moe().experts();
  if (shadows == 0 || shadows == -1) return {};  // auto is settled later
  if (shadows < 0)
    return {Format("parallel.shadow_experts: is %d; must be at least 0, or -1 (auto)", shadows)};
  std::vector<std::string> problems;
  const int64_t ranks = MeshShapeOf(config.parallel(), world_size).pool();
  const int64_t own = (experts + ranks - 1) / ranks, others = experts - own;
  if (ranks > 1 && shadows > others) {
    problems.push_back(
        Format("parallel.shadow_experts: is %d, but of the %d experts a rank owns %d already, so that it can "
               "have copies of %d others at most",
               shadows, experts, own, others));
  }
  return problems;
}

}  // namespace unipool
