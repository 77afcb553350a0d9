#include "parallel/slot_placement.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "runtime/errors.h"

namespace unipool {
namespace {

// Blocks of experts that have a size but no rank yet, with the load of each block in each slot.
class Packing {
 public:
  Packing(const SlotLoads& loads, const ExpertPlacement& sizes) : loads_(loads), slots_(loads.num_slots) {
    for (int rank = 0; rank < sizes.num_ranks(); ++rank) {
      sizes_.push_back(static_cast<int>(sizes.experts_of(rank).size()));
    }
    blocks_.resize(sizes_.size());
    block_loads_.assign(sizes_.size() * slots_, 0.0);
    others_.resize(slots_);
  }

  void Take(const ExpertPlacement& placement) {
    for (int expert = 0; expert < placement.num_experts(); ++expert) Put(expert, placement.owner(expert));
  }

  // Heavy experts first, each to the block where its slots are emptiest: smallest product of the two loads,
  // every slot in units of its own mean.
  void Deal() {
    std::vector<double> per_mean(slots_);
    for (int expert = 0; expert < loads_.num_experts; ++expert) {
      for (int slot = 0; slot < slots_; ++slot) per_mean[slot] += loads_.of(expert)[slot];
    }
    for (double& total : per_mean) total = total > 0 ? 1 / total : 0;
    for (const int expert : ByLoad()) {
      int best = -1;
      double least = 0;
      for (int block = 0; block < num_blocks(); ++block) {
        if (static_cast<int>(blocks_[block].size()) == sizes_[block]) continue;
        double product = 0;
        for (int slot = 0; slot < slots_; ++slot) {
          product += load(block)[slot] * loads_.of(expert)[slot] * per_mean[slot];
        }
        if (best < 0 || product < least) {
          best = block;
          least = product;
        }
      }
      Put(expert, best);
    }
  }

  // Swaps experts of two blocks while that lowers the cost.
  void Improve(int max_rounds) {
    bool improved = true;
    for (int round = 0; improved && round < max_rounds; ++round) {
      improved = false;
      for (int a = 0; a < num_blocks(); ++a) {
        for (int b = a + 1; b < num_blocks(); ++b) improved |= ImprovePair(a, b);
      }
    }
  }

  double Cost() const {
    double cost = 0;
    for (int slot = 0; slot < slots_; ++slot) {
      double largest = 0;
      for (int block = 0; block < num_blocks(); ++block) largest = std::max(largest, load(block)[slot]);
      cost += largest;
    }
    return cost;
  }

  // Blocks become ranks of equal size, those first that keep most experts where they are.
  ExpertPlacement Assign(const ExpertPlacement& current) const {
    std::vector<std::tuple<int, int, int>> matches;  // -kept experts, block, rank
    for (int block = 0; block < num_blocks(); ++block) {
      std::vector<int> kept(num_blocks());
      for (const int expert : blocks_[block]) ++kept[current.owner(expert)];
      for (int rank = 0; rank < num_blocks(); ++rank) {
        if (sizes_[block] == sizes_[rank]) matches.emplace_back(-kept[rank], block, rank);
      }
    }
    std::sort(matches.begin(), matches.end());
    std::vector<int> rank_of(num_blocks(), -1), owner(current.num_experts());
    std::vector<bool> taken(num_blocks());
    for (const auto& [kept, block, rank] : matches) {
      if (rank_of[block] >= 0 || taken[rank]) continue;
      rank_of[block] = rank;
      taken[rank] = true;
      for (const int expert : blocks_[block]) owner[expert] = rank;
    }
    return ExpertPlacement(std::move(owner), num_blocks());
  }

 private:
  int num_blocks() const { return static_cast<int>(sizes_.size()); }
  double* load(int block) { return block_loads_.data() + static_cast<size_t>(block) * slots_; }
  const double* load(int block) const { return block_loads_.data() + static_cast<size_t>(block) * slots_; }

  void Put(int expert, int block) {
    blocks_[block].push_back(expert);
    for (int slot = 0; slot < slots_; ++slot) load(block)[slot] += loads_.of(expert)[slot];
  }

  std::vector<int> ByLoad() const {
    std::vector<double> total(loads_.num_experts);
    for (int expert = 0; expert < loads_.num_experts; ++expert) {
      const std::span<const double> load = loads_.of(expert);
      total[expert] = std::accumulate(load.begin(), load.end(), 0.0);
    }
    std::vector<int> order(loads_.num_experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return total[a] > total[b]; });
    return order;
  }

  // Cost of all slots when the experts in `out` and `in` of blocks a and b change places; without them, of
  // things as they are.
  double PairCost(const double* a, const double* b, const double* out, const double* in) const {
    double cost = 0;
    for (int slot = 0; slot < slots_; ++slot) {
      const double change = in[slot] - out[slot];
      cost += std::max(others_[slot], std::max(a[slot] + change, b[slot] - change));
    }
    return cost;
  }

  bool ImprovePair(int a, int b) {
    std::fill(others_.begin(), others_.end(), 0.0);
    for (int block = 0; block < num_blocks(); ++block) {
      if (block == a || block == b) continue;
      for (int slot = 0; slot < slots_; ++slot) others_[slot] = std::max(others_[slot], load(block)[slot]);
    }
    const std::vector<double> nothing(slots_);
    double cost = PairCost(load(a), load(b), nothing.data(), nothing.data());
    bool improved = false;
    for (int& out : blocks_[a]) {
      for (int& in : blocks_[b]) {
        const double swapped = PairCost(load(a), load(b), loads_.of(out).data(), loads_.of(in).data());
        if (swapped >= cost * (1 - 1e-12)) continue;  // more than rounding
        for (int slot = 0; slot < slots_; ++slot) {
          const double change = loads_.of(in)[slot] - loads_.of(out)[slot];
          load(a)[slot] += change;
          load(b)[slot] -= change;
        }
        std::swap(out, in);
        cost = swapped;
        improved = true;
      }
    }
    return improved;
  }

  const SlotLoads& loads_;
  const int slots_;
  std::vector<int> sizes_;
  std::vector<std::vector<int>> blocks_;
  std::vector<double> block_loads_;  // [blocks, slots]
  std::vector<double> others_;       // [slots] largest load of the blocks that are not being improved
};

}  // namespace

ExpertPlacement PlaceBySlots(const SlotLoads& loads, const ExpertPlacement& current,
                             const PlacementSearch& search) {
  CHECK_EQ(loads.num_experts, current.num_experts());
  Packing kept(loads, current), dealt(loads, current);
  kept.Take(current);
  dealt.Deal();
  kept.Improve(search.max_rounds);
  dealt.Improve(search.max_rounds);
  const ExpertPlacement best = (dealt.Cost() < kept.Cost() ? dealt : kept).Assign(current);
  const double before = LockstepCost(loads, current);
  return LockstepCost(loads, best) < before * (1 - search.least_gain) ? best : current;
}

int NumMoved(const ExpertPlacement& from, const ExpertPlacement& to) {
  int moved = 0;
  for (int expert = 0; expert < from.num_experts(); ++expert) moved += from.owner(expert) != to.owner(expert);
  return moved;
}

}  // namespace unipool
