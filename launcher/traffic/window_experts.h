// The rows that each expert got in each layer over the steps of a window, for RUN_DIR/traffic. Pure: no
// ranks, no files.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "models/visibility.h"
#include "parallel/expert_placement.h"

namespace unipool {

class WindowExperts {
 public:
  // `counts` [L, M] of a step, over all ranks: choices with a positive score, the rows that travel to experts
  // in the forward. Where experts live, and what layers may choose, is told as of the last step.
  void AddStep(std::span<const double> counts, const ExpertPlacement& placement,
               const Visibility& visibility);
  bool empty() const { return rows_.empty(); }
  // `expert_rows` of a window (runtime/TRAFFIC.md); null without steps.
  nlohmann::ordered_json ToJson() const;

 private:
  size_t num_layers() const { return choosable_.size(); }
  std::vector<int64_t> rows_;                 // [L, M]
  std::vector<int> owner_;                    // [M] ranks of the pool
  std::vector<std::pair<int, int>> shadows_;  // expert, rank of the pool
  std::vector<int64_t> choosable_;            // [L] experts
};

// Of a layer, those with most rows; the others are in its sum alone.
inline constexpr size_t kMostExpertsInWindows = 256;

}  // namespace unipool
