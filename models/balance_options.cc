#include "models/balance_options.h"

#include <algorithm>

namespace unipool {

std::vector<BalanceGroup> BalanceGroupsOf(const ModelSpec& spec) {
  std::vector<BalanceGroup> groups(spec.num_balance_groups);
  for (int layer = 0; layer < spec.layers; ++layer) {
    BalanceGroup& group = groups[spec.balance_group[layer]];
    ++group.layers;
    group.experts = std::max(group.experts, spec.num_visible(layer));
  }
  return groups;
}

}  // namespace unipool
