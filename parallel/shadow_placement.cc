#include "parallel/shadow_placement.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/errors.h"

namespace unipool {
namespace {

// weights[l][slot]: what a row of layer l weighs in a slot. Loads are linear in the counts, so the loads of
// "experts" that have one row in one layer each are these weights.
SlotLoads LayerWeights(const SlotSchedule& schedule, PoolSpan span) {
  int layers = 0;
  for (int stage = 0; stage < schedule.num_stages(); ++stage) layers += schedule.num_layers(stage);
  std::vector<double> identity(static_cast<size_t>(layers) * layers);
  for (int l = 0; l < layers; ++l) identity[static_cast<size_t>(l) * layers + l] = 1;
  return SlotLoadsOf(identity, layers, schedule, span);
}

// Rows of each copy of each expert by layer, and how unlevel they make the ranks.
class ShareSearch {
 public:
  ShareSearch(const ShadowCounts& counts, const ExpertPlacement& owners)
      : counts_(counts.counts),
        weights_(LayerWeights(counts.schedule, counts.span)),
        layers_(weights_.num_experts),
        experts_(owners.num_experts()),
        ranks_(owners.num_ranks()),
        form_(Square(layers_)),
        copy_rows_(layers_),
        slope_(static_cast<size_t>(ranks_) * layers_),
        copies_(experts_) {
    CHECK_EQ(static_cast<int64_t>(counts_.size()), int64_t{layers_} * experts_);
    MakeForm();
    for (int l = 0; l < layers_; ++l) copy_rows_[l] = counts.copy_share * rows_of(l);
    for (int expert = 0; expert < experts_; ++expert) {
      copies_[expert].push_back({.rank = owners.owner(expert), .rows = std::vector<double>(layers_)});
      for (int l = 0; l < layers_; ++l) Add(copies_[expert][0], l, count(l, expert));
    }
  }

  // The sum over slots of the largest load of a rank, with what the copies cost.
  double Cost() const {
    std::vector<double> rows(static_cast<size_t>(ranks_) * layers_);
    for (const auto& copies : copies_) {
      for (const Copy& copy : copies) {
        const bool is_shadow = &copy != copies.data();
        double* of_rank = rows.data() + static_cast<size_t>(copy.rank) * layers_;
        for (int l = 0; l < layers_; ++l) {
          of_rank[l] += copy.rows[l];
          if (is_shadow && copy.rows[l] > 0) of_rank[l] += copy_rows_[l];
        }
      }
    }
    double cost = 0;
    for (int slot = 0; slot < weights_.num_slots; ++slot) {
      double largest = 0;
      for (int rank = 0; rank < ranks_; ++rank) {
        double load = 0;
        for (int l = 0; l < layers_; ++l)
          load += weights_.of(l)[slot] * rows[static_cast<size_t>(rank) * layers_ + l];
        largest = std::max(largest, load);
      }
      cost += largest;
    }
    return cost;
  }

  // The copy that would lower the form most. rank < 0: none would.
  struct Choice {
    int expert = -1, rank = -1;
    double gain = 0;
  };
  Choice BestShadow(const std::vector<int>& room) const {
    Choice best;
    for (const int rank : LeastLoaded(room)) {
      for (int expert = 0; expert < experts_; ++expert) {
        if (IsOn(expert, rank)) continue;
        const double gain = GainOf(expert, rank);
        if (gain > best.gain * (1 + 1e-12)) best = {.expert = expert, .rank = rank, .gain = gain};
      }
    }
    return best;
  }
  void AddShadow(const Choice& choice) {
    copies_[choice.expert].push_back({.rank = choice.rank, .rows = std::vector<double>(layers_)});
  }

  // What the cost would be if all ranks were level.
  double LevelCost() const {
    const double rows = std::accumulate(counts_.begin(), counts_.end(), 0.0);
    if (rows == 0) return 0;
    double cost = 0;
    for (int l = 0; l < layers_; ++l) {
      for (int slot = 0; slot < weights_.num_slots; ++slot)
        cost += weights_.of(l)[slot] * rows_of(l) / ranks_;
    }
    return cost;
  }

  // Improves the shares of all copied experts in turn, until a round gains next to nothing.
  void Level(int max_rounds) {
    const double total = Form();
    for (int round = 0; round < max_rounds; ++round) {
      double gain = 0;
      for (auto& copies : copies_) {
        for (size_t a = 0; a + 1 < copies.size(); ++a) {
          for (size_t b = a + 1; b < copies.size(); ++b) {
            for (int l = 0; l < layers_; ++l) gain += Shift(copies[a], copies[b], l);
          }
        }
      }
      if (gain <= 1e-6 * total) return;
    }
  }

  ExpertPlacement Result(const ExpertPlacement& owners, int shadows_per_rank) const {
    std::vector<std::vector<int>> shadows(ranks_);
    for (int expert = 0; expert < experts_; ++expert) {
      for (size_t i = 1; i < copies_[expert].size(); ++i) shadows[copies_[expert][i].rank].push_back(expert);
    }
    for (auto& of_rank : shadows) of_rank.resize(shadows_per_rank, -1);
    std::vector<int> owner(experts_);
    for (int expert = 0; expert < experts_; ++expert) owner[expert] = owners.owner(expert);
    const ExpertPlacement placed(owner, ranks_, {.of_rank = shadows, .shares = {}});
    std::vector<int32_t> shares(static_cast<size_t>(layers_) * placed.num_places());
    for (int expert = 0; expert < experts_; ++expert) RoundShares(expert, placed, shares);
    return ExpertPlacement(std::move(owner), ranks_,
                           {.of_rank = std::move(shadows), .shares = std::move(shares)});
  }

 private:
  static constexpr size_t kMostTargets = 8;  // ranks that are tried for the next shadow
  struct Copy {
    int rank = 0;
    std::vector<double> rows;  // [L]
  };
  static std::vector<double> Square(int n) { return std::vector<double>(static_cast<size_t>(n) * n); }
  double count(int layer, int expert) const {
    return counts_[static_cast<size_t>(layer) * experts_ + expert];
  }
  double rows_of(int layer) const {
    const auto begin = counts_.begin() + static_cast<int64_t>(layer) * experts_;
    return std::accumulate(begin, begin + experts_, 0.0);
  }
  const double* form(int layer) const { return form_.data() + static_cast<size_t>(layer) * layers_; }
  double& slope(int rank, int layer) { return slope_[static_cast<size_t>(rank) * layers_ + layer]; }
  double slope(int rank, int layer) const { return slope_[static_cast<size_t>(rank) * layers_ + layer]; }

  void MakeForm() {
    std::vector<double> mean(weights_.num_slots);
    for (int l = 0; l < layers_; ++l) {
      for (int slot = 0; slot < weights_.num_slots; ++slot) mean[slot] += weights_.of(l)[slot] * rows_of(l);
    }
    for (int a = 0; a < layers_; ++a) {
      for (int b = 0; b < layers_; ++b) {
        double& sum = form_[static_cast<size_t>(a) * layers_ + b];
        for (int slot = 0; slot < weights_.num_slots; ++slot) {
          if (mean[slot] > 0) sum += weights_.of(a)[slot] * weights_.of(b)[slot] / mean[slot];
        }
      }
    }
  }

  // Ranks with room, least load first; not all of many.
  std::vector<int> LeastLoaded(const std::vector<int>& room) const {
    std::vector<std::pair<double, int>> ranks;
    for (int rank = 0; rank < ranks_; ++rank) {
      if (room[rank] == 0) continue;
      double load = 0;
      for (int l = 0; l < layers_; ++l) load += slope(rank, l);
      ranks.emplace_back(load, rank);
    }
    std::sort(ranks.begin(), ranks.end());
    std::vector<int> list;
    for (size_t i = 0; i < std::min<size_t>(ranks.size(), kMostTargets); ++i) list.push_back(ranks[i].second);
    return list;
  }

  bool IsOn(int expert, int rank) const {
    for (const Copy& copy : copies_[expert]) {
      if (copy.rank == rank) return true;
    }
    return false;
  }

  void Add(Copy& copy, int layer, double rows) {
    copy.rows[layer] += rows;
    for (int l = 0; l < layers_; ++l) slope(copy.rank, l) += form(layer)[l] * rows;
  }

  double Form() const {
    double sum = 0;
    for (const auto& copies : copies_) {
      for (const Copy& copy : copies) {
        for (int l = 0; l < layers_; ++l) sum += copy.rows[l] * slope(copy.rank, l);
      }
    }
    return sum;
  }

  // Moves rows between two copies where the form is least. Returns what it fell by.
  double Shift(Copy& a, Copy& b, int layer) {
    const double curve = form(layer)[layer];
    if (curve <= 0) return 0;
    const double steep = slope(a.rank, layer) - slope(b.rank, layer);
    const double rows = std::clamp(steep / (2 * curve), -b.rows[layer], a.rows[layer]);
    if (rows == 0) return 0;
    Add(a, layer, -rows);
    Add(b, layer, rows);
    return 2 * rows * (steep - rows * curve);
  }

  // What the form would fall by with a copy of the expert on this rank, if each layer moved once in turn.
  double GainOf(int expert, int rank) const {
    const Copy* from = &copies_[expert][0];
    for (const Copy& copy : copies_[expert]) {
      if (Steepness(copy, expert) > Steepness(*from, expert)) from = &copy;
    }
    double gain = 0;
    std::vector<double> moved(layers_);
    for (int l = 0; l < layers_; ++l) {
      const double curve = form(l)[l];
      if (curve <= 0) continue;
      double steep = slope(from->rank, l) - slope(rank, l);
      for (int other = 0; other < l; ++other) steep -= 2 * form(l)[other] * moved[other];
      const double rows = std::clamp(steep / (2 * curve), 0.0, from->rows[l]);
      moved[l] = rows;
      gain += 2 * rows * (steep - rows * curve);
    }
    return gain;
  }
  double Steepness(const Copy& copy, int expert) const {
    double sum = 0;
    for (int l = 0; l < layers_; ++l) sum += slope(copy.rank, l) * count(l, expert);
    return sum;
  }

  // Largest remainders get the units that rounding down leaves; equal ones go to the earlier copy.
  void RoundShares(int expert, const ExpertPlacement& placed, std::vector<int32_t>& all_shares) const {
    const std::vector<int> places = placed.places_of(expert);
    for (int l = 0; l < layers_; ++l) {
      int32_t* shares = all_shares.data() + static_cast<size_t>(l) * placed.num_places();
      const double all = count(l, expert);
      if (places.size() == 1 || all <= 0) {
        shares[places[0]] = kShareUnits;
        continue;
      }
      std::vector<std::pair<double, int>> rests;  // what rounding down took, negative; place
      int left = kShareUnits;
      for (const int place : places) {
        const double exact =
            std::clamp(RowsOn(expert, placed.rank_of(place))[l] / all, 0.0, 1.0) * kShareUnits;
        shares[place] = std::min(left, static_cast<int>(exact));
        left -= shares[place];
        rests.emplace_back(shares[place] - exact, place);
      }
      std::stable_sort(rests.begin(), rests.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
      for (size_t i = 0; left > 0; i = (i + 1) % rests.size(), --left) ++shares[rests[i].second];
    }
  }
  const std::vector<double>& RowsOn(int expert, int rank) const {
    const auto copy = std::find_if(copies_[expert].begin(), copies_[expert].end(),
                                   [&](const Copy& c) { return c.rank == rank; });
    CHECK(copy != copies_[expert].end());
    return copy->rows;
  }

  std::span<const double> counts_;
  SlotLoads weights_;
  int layers_, experts_, ranks_;
  std::vector<double> form_;               // [L, L]
  std::vector<double> copy_rows_;          // [L] that a copy with rows of the layer costs, as rows
  std::vector<double> slope_;              // [W, L] half the gradient of the form by a rank's rows
  std::vector<std::vector<Copy>> copies_;  // [M], the owner's first
};

}  // namespace

ExpertPlacement PlaceShadows(const ShadowCounts& counts, const ExpertPlacement& owners, int shadows_per_rank,
                             double tolerance) {
  ShareSearch search(counts, owners);
  std::vector<int> room(owners.num_ranks(), shadows_per_rank);
  const double enough = search.LevelCost() * (1 + tolerance);
  // The form is not the cost: what lowers one may raise the other. Several ranks may be equally late, so a
  // shadow that gains nothing may be the first of some that do.
  ShareSearch best = search;
  double least = best.Cost();
  for (int in_vain = 0; least > enough && in_vain <= owners.num_ranks(); ++in_vain) {
    const ShareSearch::Choice choice = search.BestShadow(room);
    if (choice.rank < 0) break;
    search.AddShadow(choice);
    search.Level(/*max_rounds=*/4);
    --room[choice.rank];
    const double cost = search.Cost();
    if (cost >= least) continue;
    least = cost;
    best = search;
    in_vain = -1;
  }
  search = best;
  search.Level(/*max_rounds=*/100);
  return (search.Cost() < least ? search : best).Result(owners, shadows_per_rank);
}

int NumShadows(const ExpertPlacement& placement) {
  const std::vector<int>& experts = placement.send_order();
  return static_cast<int>(std::count_if(experts.begin(), experts.end(), [](int e) { return e >= 0; })) -
         placement.num_experts();
}

std::vector<double> RankLoads(const ShadowCounts& counts, const ExpertPlacement& placement) {
  const SlotLoads weights = LayerWeights(counts.schedule, counts.span);
  std::vector<double> ranks(static_cast<size_t>(placement.num_ranks()) * weights.num_slots);
  for (int layer = 0; layer < weights.num_experts; ++layer) {
    const std::span<const int32_t> shares = placement.shares(layer);
    for (int place = 0; place < placement.num_places(); ++place) {
      if (shares[place] == 0) continue;
      const double rows =
          counts
              .counts[static_cast<size_t>(layer) * placement.num_experts() + placement.send_order()[place]] *
          shares[place] / kShareUnits;
      double* loads = ranks.data() + static_cast<size_t>(placement.rank_of(place)) * weights.num_slots;
      for (int slot = 0; slot < weights.num_slots; ++slot) loads[slot] += rows * weights.of(layer)[slot];
    }
  }
  return ranks;
}

double SlotImbalance(const ShadowCounts& counts, const ExpertPlacement& placement) {
  if (!placement.has_shares()) {
    return SlotImbalance(SlotLoadsOf(counts.counts, placement.num_experts(), counts.schedule, counts.span),
                         placement);
  }
  const std::vector<double> ranks = RankLoads(counts, placement);
  const int num_ranks = placement.num_ranks();
  const size_t slots = ranks.size() / num_ranks;
  double largest = 0, mean = 0;
  for (size_t slot = 0; slot < slots; ++slot) {
    double most = 0;
    for (int rank = 0; rank < num_ranks; ++rank) {
      most = std::max(most, ranks[rank * slots + slot]);
      mean += ranks[rank * slots + slot] / num_ranks;
    }
    largest += most;
  }
  return mean > 0 ? largest / mean : 1;
}

std::vector<int32_t> SharesOfSource(const ExpertPlacement& placement, std::span<const int32_t> shares,
                                    std::span<const int> sources, int source) {
  const auto n = static_cast<int>(sources.size());
  std::vector<int32_t> own(placement.num_places());
  for (int expert = 0; expert < placement.num_experts(); ++expert) {
    const std::vector<int> places = placement.places_of(expert);
    if (places.size() == 1) {
      own[places[0]] = kShareUnits;
      continue;
    }
    // Units of all sources together: n * kShareUnits to give, n * share to take.
    std::vector<int> take(places.size());
    int own_place = -1, own_units = 0, taken = 0;
    for (size_t i = 0; i < places.size(); ++i) {
      const int rank = placement.rank_of(places[i]);
      take[i] = n * shares[places[i]];
      if (std::find(sources.begin(), sources.end(), rank) == sources.end()) continue;
      const int units = std::min(kShareUnits, take[i]);
      take[i] -= units;
      taken += units;
      if (rank == source) own_place = static_cast<int>(i), own_units = units;
    }
    const int rest = n * kShareUnits - taken, own_rest = kShareUnits - own_units;
    int64_t before = 0;
    int dealt = 0;
    for (size_t i = 0; i < places.size(); ++i) {
      before += take[i];
      const int until = rest > 0 ? static_cast<int>((before * own_rest + rest / 2) / rest) : 0;
      own[places[i]] = until - dealt;
      dealt = until;
    }
    if (own_place >= 0) own[places[own_place]] += own_units;
  }
  return own;
}

}  // namespace unipool
