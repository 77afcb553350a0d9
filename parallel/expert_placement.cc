#include "parallel/expert_placement.h"

#include <utility>

#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {

ExpertPlacement::ExpertPlacement(std::vector<int> owner, int num_ranks)
    : owner_(std::move(owner)), local_index_(owner_.size()), experts_of_(num_ranks) {
  for (int expert = 0; expert < num_experts(); ++expert) {
    const int rank = owner_[expert];
    CHECK(rank >= 0 && rank < num_ranks)
        << "expert " << expert << " has owner " << rank << " of " << num_ranks << " ranks";
    local_index_[expert] = static_cast<int>(experts_of_[rank].size());
    experts_of_[rank].push_back(expert);
  }
  for (const std::vector<int>& experts : experts_of_) {
    first_of_.push_back(static_cast<int>(send_order_.size()));
    send_order_.insert(send_order_.end(), experts.begin(), experts.end());
  }
  first_of_.push_back(num_experts());
}

ExpertPlacement ContiguousPlacement(int num_experts, int num_ranks) {
  std::vector<int> owner(num_experts);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Range block = EvenPartition(num_experts, num_ranks, rank);
    for (int64_t expert = block.begin; expert < block.end; ++expert) owner[expert] = rank;
  }
  return ExpertPlacement(std::move(owner), num_ranks);
}

}  // namespace unipool
