#include "parallel/expert_placement.h"

#include <algorithm>
#include <utility>

#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {

ExpertPlacement::ExpertPlacement(std::vector<int> owner, int num_ranks, Shadows shadows)
    : owner_(std::move(owner)),
      local_index_(owner_.size()),
      experts_of_(num_ranks),
      num_shadows_(shadows.of_rank.empty() ? 0 : static_cast<int>(shadows.of_rank[0].size())),
      shares_(std::move(shadows.shares)) {
  shadows.of_rank.resize(num_ranks);
  for (int expert = 0; expert < num_experts(); ++expert) {
    const int rank = owner_[expert];
    CHECK(rank >= 0 && rank < num_ranks)
        << "expert " << expert << " has owner " << rank << " of " << num_ranks << " ranks";
    local_index_[expert] = static_cast<int>(experts_of_[rank].size());
    experts_of_[rank].push_back(expert);
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::vector<int>& experts = experts_of_[rank];
    first_of_.push_back(num_places());
    send_order_.insert(send_order_.end(), experts.begin(), experts.end());
    CHECK_EQ(static_cast<int>(shadows.of_rank[rank].size()), num_shadows_)
        << "room for shadows on rank " << rank;
    for (const int expert : shadows.of_rank[rank]) {
      CHECK(expert >= -1 && expert < num_experts()) << "a shadow of expert " << expert;
      CHECK(expert < 0 ||
            std::find(send_order_.begin() + first_of_[rank], send_order_.end(), expert) == send_order_.end())
          << "expert " << expert << " is twice on rank " << rank;
      send_order_.push_back(expert);
    }
  }
  first_of_.push_back(num_places());
  CHECK(shares_.empty() || shares_.size() % num_places() == 0) << shares_.size() << " shares";
}

ExpertPlacement ExpertPlacement::WithRoom(int shadows_per_rank) const {
  return ExpertPlacement(
      owner_, num_ranks(),
      {.of_rank = std::vector<std::vector<int>>(num_ranks(), std::vector<int>(shadows_per_rank, -1)),
       .shares = {}});
}

std::vector<int> ExpertPlacement::shadows_of(int rank) const {
  const auto end = send_order_.begin() + first_of_[rank + 1];
  return {end - num_shadows_, end};
}

std::vector<int> ExpertPlacement::places_of(int expert) const {
  std::vector<int> places{send_index(expert)};
  for (int rank = 0; rank < num_ranks() && num_shadows_ > 0; ++rank) {
    for (int place = first_of_[rank + 1] - num_shadows_; place < first_of_[rank + 1]; ++place) {
      if (send_order_[place] == expert) places.push_back(place);
    }
  }
  return places;
}

int ExpertPlacement::rank_of(int place) const {
  return static_cast<int>(std::upper_bound(first_of_.begin(), first_of_.end(), place) - first_of_.begin()) -
         1;
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
