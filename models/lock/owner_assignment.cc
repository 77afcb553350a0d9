#include "models/lock/owner_assignment.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "models/lock/even_assignment.h"
#include "runtime/random.h"

namespace unipool {
namespace {

constexpr int64_t kMillion = 1'000'000;
constexpr int64_t kUnit = int64_t{1} << 20;  // what a layer's choices are together in Lagrange's costs
constexpr int64_t kMostMultiplier = 1 << 24;
constexpr int kMultiplierSteps = 40;

struct Problem {
  Problem(std::span<const int64_t> given, const AssignmentOptions& options)
      : layers(options.layers), experts(options.experts), counts(given) {
    ranks = RanksOfExperts(counts, layers, experts);
    for (int l = 0; l < layers; ++l) {
      const auto row = counts.subspan(int64_t{l} * experts, experts);
      totals.push_back(std::accumulate(row.begin(), row.end(), int64_t{0}));
    }
    const int64_t share = std::llround(options.coverage * kMillion);
    for (const int64_t total : totals) needs.push_back(CeilOf(total, share, kMillion));
    // Shares of a layer's choices in kUnit: rounded up, and what is needed down, so that nothing that covers
    // is lost.
    for (int l = 0; l < layers; ++l) {
      for (int i = 0; i < experts; ++i)
        weights.push_back(totals[l] == 0 ? 0 : CeilOf(Count(l, i), kUnit, totals[l]));
      needed_weights.push_back(totals[l] == 0 ? 0
                                              : static_cast<int64_t>(__int128{needs[l]} * kUnit / totals[l]));
    }
  }

  static int64_t CeilOf(int64_t a, int64_t b, int64_t divisor) {
    return static_cast<int64_t>((__int128{a} * b + divisor - 1) / divisor);
  }
  int64_t At(int l, int i) const { return int64_t{l} * experts + i; }
  int64_t Count(int l, int i) const { return counts[At(l, i)]; }
  bool Covers(const std::vector<int>& owner) const {
    std::vector<int64_t> covered(layers);
    for (int i = 0; i < experts; ++i) covered[owner[i]] += Count(owner[i], i);
    for (int l = 0; l < layers; ++l) {
      if (covered[l] < needs[l]) return false;
    }
    return true;
  }
  int64_t RankSum(const std::vector<int>& owner) const {
    int64_t sum = 0;
    for (int i = 0; i < experts; ++i) sum += ranks[At(owner[i], i)];
    return sum;
  }

  int layers, experts;
  std::span<const int64_t> counts;      // [L * M]
  std::vector<int> ranks;               // [L * M]
  std::vector<int64_t> totals, needs;   // [L] choices; of them to be covered
  std::vector<int64_t> weights;         // [L * M]
  std::vector<int64_t> needed_weights;  // [L]
};

// Branch and bound for the least sum of ranks that covers. While no way to cover is known, ranks do not
// count: multipliers then look for a proof that there is none below a node.
class Search {
 public:
  Search(const Problem& problem, int64_t most_work)
      : p_(problem), work_left_(most_work), forbidden_(problem.counts.size(), false) {}

  void Run(const std::vector<int>& start) {
    Offer(start);
    Offer(Relaxed(std::vector<int64_t>(p_.layers, 0), kUnit).bin_of);  // the best by ranks alone
    Branch(FirstMultipliers());
  }
  const std::optional<std::vector<int>>& best() const { return best_; }
  bool has_ended() const { return work_left_ > 0; }

 private:
  void Offer(const std::vector<int>& owner) {
    const int64_t sum = p_.RankSum(owner);
    if ((best_ && sum >= best_sum_) || !p_.Covers(owner)) return;
    best_ = owner;
    best_sum_ = sum;
  }

  std::vector<int64_t> FirstMultipliers() const { return std::vector<int64_t>(p_.layers, best_ ? 0 : 1024); }

  // The cheapest assignment where a rank costs `unit` and covering earns the layers' multipliers.
  EvenAssignment Relaxed(const std::vector<int64_t>& multipliers, int64_t unit) {
    std::vector<int64_t> costs(p_.counts.size());
    for (int l = 0; l < p_.layers; ++l) {
      for (int i = 0; i < p_.experts; ++i) {
        const int64_t at = p_.At(l, i);
        costs[at] = forbidden_[at] ? kForbidden : p_.ranks[at] * unit - multipliers[l] * p_.weights[at];
      }
    }
    work_left_ -= int64_t{p_.experts} * p_.layers * (p_.layers + p_.experts / p_.layers);
    return AssignEvenly(p_.layers, p_.experts, costs);
  }

  std::vector<int64_t> Lacking(const std::vector<int>& owner) const {
    std::vector<int64_t> lacking = p_.needed_weights;
    for (int i = 0; i < p_.experts; ++i) lacking[owner[i]] -= p_.weights[p_.At(owner[i], i)];
    return lacking;
  }

  // Raises the bound; the last relaxed assignment, or nothing where nothing better can be below this node.
  std::optional<std::vector<int>> Bound(std::vector<int64_t>& multipliers) {
    bool was_known = best_.has_value();
    for (int step = 0;; ++step) {
      if (!was_known && best_) {
        was_known = true;
        multipliers = FirstMultipliers();
        step = 0;
      }
      const EvenAssignment relaxed = Relaxed(multipliers, was_known ? kUnit : 0);
      if (relaxed.cost >= kForbidden / 2 || work_left_ <= 0) return {};
      int64_t bound = relaxed.cost;
      for (int l = 0; l < p_.layers; ++l) bound += multipliers[l] * p_.needed_weights[l];
      if (!was_known && bound > 0) return {};                         // nothing covers
      if (was_known && best_sum_ * kUnit - bound < kUnit) return {};  // what is better is so by a whole rank
      Offer(relaxed.bin_of);
      if (!was_known && best_) continue;
      const std::vector<int64_t> lacking = Lacking(relaxed.bin_of);
      if (step == kMultiplierSteps || !Move(multipliers, lacking, was_known ? best_sum_ * kUnit - bound : 0))
        return relaxed.bin_of;
    }
  }

  // Towards a higher bound, by the length that closes the gap to the best known; 0: by a fixed one. Returns
  // false where there is no direction.
  bool Move(std::vector<int64_t>& multipliers, const std::vector<int64_t>& lacking, int64_t gap) const {
    __int128 squares = 0;
    for (int l = 0; l < p_.layers; ++l) {
      if (lacking[l] > 0 || multipliers[l] > 0) squares += __int128{lacking[l]} * lacking[l];
    }
    if (squares == 0) return false;
    for (int l = 0; l < p_.layers; ++l) {
      const int64_t change =
          gap > 0 ? static_cast<int64_t>(__int128{gap} * lacking[l] / squares) : lacking[l] / 256;
      multipliers[l] = std::clamp<int64_t>(multipliers[l] + change, 0, kMostMultiplier);
    }
    return true;
  }

  void Branch(std::vector<int64_t> multipliers) {
    const std::optional<std::vector<int>> relaxed = Bound(multipliers);
    if (!relaxed || work_left_ <= 0) return;
    const int64_t at = PairToDecide(*relaxed);
    if (at < 0) return;
    const auto expert = static_cast<int>(at % p_.experts);
    std::vector<int64_t> others;  // that the pair rules out
    for (int l = 0; l < p_.layers; ++l) {
      if (p_.At(l, expert) != at && !forbidden_[p_.At(l, expert)]) others.push_back(p_.At(l, expert));
    }
    for (const int64_t other : others) forbidden_[other] = true;
    Branch(multipliers);
    for (const int64_t other : others) forbidden_[other] = false;
    forbidden_[at] = true;
    Branch(multipliers);
    forbidden_[at] = false;
  }

  bool IsDecided(int expert) const {
    int open = 0;
    for (int l = 0; l < p_.layers; ++l) open += !forbidden_[p_.At(l, expert)];
    return open <= 1;
  }

  // The layer that lacks most, and its favourite among experts that are not decided and that it has not got.
  // Otherwise any pair that is not decided; -1: there is none.
  int64_t PairToDecide(const std::vector<int>& owner) const {
    const std::vector<int64_t> lacking = Lacking(owner);
    std::vector<int> order(p_.layers);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return lacking[a] > lacking[b]; });
    for (const bool has_not : {true, false}) {
      for (const int l : order) {
        int64_t best = -1;
        for (int i = 0; i < p_.experts; ++i) {
          const int64_t at = p_.At(l, i);
          if (forbidden_[at] || IsDecided(i) || (has_not && owner[i] == l)) continue;
          if (best < 0 || p_.ranks[at] < p_.ranks[best]) best = at;
        }
        if (best >= 0) return best;
      }
    }
    return -1;
  }

  const Problem& p_;
  int64_t work_left_;
  std::vector<bool> forbidden_;  // [L * M]
  std::optional<std::vector<int>> best_;
  int64_t best_sum_ = 0;
};

std::vector<int> MostCovered(const Problem& p) {
  constexpr int64_t kShare = int64_t{1} << 40;
  std::vector<int64_t> costs(p.counts.size());
  for (int l = 0; l < p.layers; ++l) {
    for (int i = 0; i < p.experts; ++i) {
      costs[p.At(l, i)] =
          -static_cast<int64_t>(__int128{p.Count(l, i)} * kShare / std::max<int64_t>(1, p.totals[l]));
    }
  }
  return AssignEvenly(p.layers, p.experts, costs).bin_of;
}

OwnerAssignment Described(const Problem& p, std::vector<int> owner, AssignmentRule rule) {
  OwnerAssignment result{.owner = std::move(owner), .rule = rule};
  std::vector<int64_t> covered(p.layers);
  for (int i = 0; i < p.experts; ++i) covered[result.owner[i]] += p.Count(result.owner[i], i);
  for (int l = 0; l < p.layers; ++l) {
    const auto total = static_cast<double>(p.totals[l]);
    result.coverage.push_back(total > 0 ? static_cast<double>(covered[l]) / total : 1);
  }
  result.rank_sum = p.RankSum(result.owner);
  return result;
}

}  // namespace

std::vector<int> RanksOfExperts(std::span<const int64_t> counts, int layers, int experts) {
  std::vector<int> ranks(counts.size()), order(experts);
  for (int64_t l = 0; l < layers; ++l) {
    const auto row = counts.subspan(l * experts, experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
    for (int place = 0; place < experts; ++place) ranks[l * experts + order[place]] = place;
  }
  return ranks;
}

OwnerAssignment AssignOwners(std::span<const int64_t> counts, const AssignmentOptions& options) {
  CHECK(options.layers > 0 && options.experts % options.layers == 0);
  const Problem problem(counts, options);
  const std::vector<int> most_covered = MostCovered(problem);
  Search search(problem, options.most_work);
  search.Run(most_covered);
  if (search.best()) {
    return Described(problem, *search.best(),
                     search.has_ended() ? AssignmentRule::kCovered : AssignmentRule::kCoveredOpen);
  }
  return Described(problem, most_covered,
                   search.has_ended() ? AssignmentRule::kMostCovered : AssignmentRule::kMostCoveredOpen);
}

OwnerAssignment DrawOwners(uint64_t seed, std::span<const int64_t> counts, const AssignmentOptions& options) {
  const std::vector<int64_t> none(counts.empty() ? int64_t{options.layers} * options.experts : 0);
  const Problem problem(counts.empty() ? none : counts, options);
  std::vector<int> order(options.experts), owner(options.experts);
  std::iota(order.begin(), order.end(), 0);
  for (int i = options.experts - 1; i > 0; --i)
    std::swap(order[i], order[RandomBits(seed ^ 0x10c4, i) % (i + 1)]);
  for (int place = 0; place < options.experts; ++place)
    owner[order[place]] = place * options.layers / options.experts;
  return Described(problem, std::move(owner), AssignmentRule::kRandom);
}

}  // namespace unipool
