// Which rank of the pool group owns which expert. A pure value: the same on every rank.
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
  // Where an expert stands in send_order(), and where a rank's experts begin in it (also for rank ==
  // num_ranks()).
  int send_index(int expert) const { return first_of_[owner_[expert]] + local_index_[expert]; }
  int first_of(int rank) const { return first_of_[rank]; }

 private:
  std::vector<int> owner_, local_index_, send_order_, first_of_;
  std::vector<std::vector<int>> experts_of_;
};

// Consecutive blocks whose sizes differ by at most one, larger ones first (7 experts on 3 ranks: 3, 2, 2).
ExpertPlacement ContiguousPlacement(int num_experts, int num_ranks);

}  // namespace unipool
