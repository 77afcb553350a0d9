// Which rank of the pool group owns which expert. A pure value, the same on every rank.
//
// A rank may also have room for shadows, copies of experts that others own (shadow_placement.h). A *place* is
// one expert on one rank: its owner's, or a shadow's. Without shadows each expert has one place.
//   Example: 2 ranks, expert 0 on rank 0, expert 1 on rank 1. Each has room for a shadow, and rank 1 has one
//   of expert 0. Places: 0 (expert 0), 1 (empty) on rank 0; 2 (expert 1), 3 (expert 0) on rank 1.
//
// Each rank has one placement that many share: the dispatcher, its wire, the MoE layers and the expert pool
// refer to it. It changes in one place, between steps: ExpertReplacer::MoveTo (models/expert_replacer.h)
// moves the experts, assigns, and tells the expert pool. Every rank keeps its number of experts, which the
// dispatcher checks. What is copied from a placement (send_index, for a device) is copied anew in each run.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace unipool {

// All rows of a layer for an expert, in the units in which its copies share them.
inline constexpr int kShareUnits = 256;

// Copies of experts on ranks that do not own them.
struct Shadows {
  // [W][k] experts that a rank has shadows of, -1 where its room is empty.
  std::vector<std::vector<int>> of_rank;
  // [L, P] of a layer's rows of the expert at a place, the units that go there. Over an expert's places they
  // sum to kShareUnits; empty places have 0. Empty: all rows go to the owners.
  std::vector<int32_t> shares;
};

class ExpertPlacement {
 public:
  ExpertPlacement() = default;
  // owner[i] in [0, num_ranks) for every expert i. A rank may own none.
  // All ranks have the same room for shadows.
  ExpertPlacement(std::vector<int> owner, int num_ranks, Shadows shadows = {});
  int num_experts() const { return static_cast<int>(owner_.size()); }
  int num_ranks() const { return static_cast<int>(experts_of_.size()); }
  int owner(int expert) const { return owner_[expert]; }
  int local_index(int expert) const { return local_index_[expert]; }  // among its owner's experts
  const std::vector<int>& experts_of(int rank) const { return experts_of_[rank]; }  // ascending

  int num_shadows() const { return num_shadows_; }  // a rank's room
  // The shadows of a rank, [num_shadows()], -1: empty. They come behind the rank's own experts.
  std::vector<int> shadows_of(int rank) const;
  int num_places() const { return static_cast<int>(send_order_.size()); }  // P = M + W * num_shadows()
  int num_local(int rank) const { return first_of_[rank + 1] - first_of_[rank]; }  // places of a rank
  // The expert of each place, in the order rows travel: rank, then its own experts, then its shadows.
  const std::vector<int>& send_order() const { return send_order_; }
  // The owner's place of an expert.
  int send_index(int expert) const { return first_of_[owner_[expert]] + local_index_[expert]; }
  // All places of an expert, the owner's first, then its shadows by rank.
  std::vector<int> places_of(int expert) const;
  // Where a rank's places begin; num_places() for rank == num_ranks().
  int first_of(int rank) const { return first_of_[rank]; }
  int rank_of(int place) const;
  bool has_shares() const { return !shares_.empty(); }
  // [P], see Shadows. REQUIRES: has_shares().
  std::span<const int32_t> shares(int layer) const {
    return std::span(shares_).subspan(static_cast<size_t>(layer) * num_places(), num_places());
  }
  // The same owners with empty room for shadows.
  ExpertPlacement WithRoom(int shadows_per_rank) const;
  bool operator==(const ExpertPlacement&) const = default;

 private:
  std::vector<int> owner_, local_index_, send_order_, first_of_;
  std::vector<std::vector<int>> experts_of_;
  int num_shadows_ = 0;
  std::vector<int32_t> shares_;
};

// Consecutive blocks whose sizes differ by at most one, larger ones first (7 experts on 3 ranks: 3, 2, 2).
ExpertPlacement ContiguousPlacement(int num_experts, int num_ranks);

}  // namespace unipool
