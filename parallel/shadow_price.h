// How many shadows (shadow_placement.h) pay: what a step gains by level ranks against what copies cost on the
// wire and in memory. Pure arithmetic, the same for whoever plans a run and for the run.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/shadow_placement.h"

namespace unipool {

struct ShadowCosts {
  double expert_seconds = 0;  // a rank's work on experts in a step, if the ranks were level
  double move_seconds = 0;   // one expert's weights to another rank and its gradient back; nothing hides them
  int64_t shadow_bytes = 0;  // memory of room for one
  int64_t free_bytes = 0;    // memory of a rank that may be used for shadows
};

// Room for so many shadows on each rank, with the copies that the counts ask for.
struct ShadowPrice {
  int shadows = 0;            // k
  int copies = 0;             // that are made, of all ranks of a pool
  int moves = 0;              // experts that the busiest rank sends, or receives, in a step
  double imbalance = 1;       // SlotImbalance
  double late_seconds = 0;    // that a step waits for late ranks: expert_seconds (imbalance - 1)
  double moving_seconds = 0;  // moves move_seconds
  int64_t bytes = 0;          // memory of a rank
  ExpertPlacement placement;
  double seconds() const { return late_seconds + moving_seconds; }
};

// k = 0, 1, 2, 3, 4, 6, 8, 12, ..., as far as memory and other ranks' experts go, and no further than more
// are of use.
std::vector<ShadowPrice> PriceShadows(const ShadowCounts& counts, const ExpertPlacement& owners,
                                      const ShadowCosts& costs);

// The price to take: the fewest shadows of those that are within kWorthwhileShadows of the best, in shares of
// expert_seconds. Runs gain less than their counts promise (SHADOWS.md), so less than this is no gain.
// REQUIRES: prices are of PriceShadows.
inline constexpr double kWorthwhileShadows = 0.02;
const ShadowPrice& ChooseShadows(const std::vector<ShadowPrice>& prices, const ShadowCosts& costs);

}  // namespace unipool
