// Which rank of the pool group owns which expert. A pure value, the same on every rank.
//
// Each rank has one placement that many share: the dispatcher, its wire, the MoE layers and the expert pool
// refer to it. It changes in one place, between steps: ExpertReplacer::MoveTo (models/expert_replacer.h)
// moves the experts, assigns, and tells the expert pool. Every rank keeps its number of experts, which the
// dispatcher checks. What is copied from a placement (send_index, for a device) is copied anew in each run.
#pragma once

#include <vector>

namespace unipool {

class ExpertPlacement {
 public:
  ExpertPlacement() = default;
  // owner[i] in [0, num_ranks) for every expert i. A rank may own none.
  ExpertPlacement(std::vector<int> owner, int num_ranks);
  int num_experts() const { return static_cast<int>(owner_.size()); }
  int num_ranks() const { return static_cast<int>(experts_of_.size()); }
  int owner(int expert) const { return owner_[expert]; }
  int local_index(int expert) const { return local_index_[expert]; }  // among its owner's experts
  const std::vector<int>& experts_of(int rank) const { return experts_of_[rank]; }  // ascending
  // All experts in the order rows travel: owner rank, then expert.
  const std::vector<int>& send_order() const { return send_order_; }
  // Where an expert stands in send_order().
  int send_index(int expert) const { return first_of_[owner_[expert]] + local_index_[expert]; }
  // Where a rank's experts begin in send_order(); num_experts() for rank == num_ranks().
  int first_of(int rank) const { return first_of_[rank]; }

 private:
  std::vector<int> owner_, local_index_, send_order_, first_of_;
  std::vector<std::vector<int>> experts_of_;
};

// Consecutive blocks whose sizes differ by at most one, larger ones first (7 experts on 3 ranks: 3, 2, 2).
ExpertPlacement ContiguousPlacement(int num_experts, int num_ranks);

}  // namespace unipool
