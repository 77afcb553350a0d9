// Placements by chance.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "parallel/expert_placement.h"

namespace unipool {

// Experts of a rank in random places, equally many as `sizes` gives it.
inline ExpertPlacement Shuffled(const ExpertPlacement& sizes, std::mt19937_64& random) {
  std::vector<int> owner;
  for (int i = 0; i < sizes.num_experts(); ++i) owner.push_back(sizes.owner(i));
  std::shuffle(owner.begin(), owner.end(), random);
  return ExpertPlacement(owner, sizes.num_ranks());
}

}  // namespace unipool
