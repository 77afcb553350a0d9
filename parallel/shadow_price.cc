#include "parallel/shadow_price.h"

#include <algorithm>

namespace unipool {
namespace {

// Copies that the busiest rank sends or receives.
int MostMoves(const ExpertPlacement& placement) {
  std::vector<int> sent(placement.num_ranks()), received(placement.num_ranks());
  for (int place = 0; place < placement.num_places(); ++place) {
    const int expert = placement.send_order()[place], rank = placement.rank_of(place);
    if (expert < 0 || placement.owner(expert) == rank) continue;
    ++sent[placement.owner(expert)];
    ++received[rank];
  }
  return std::max(*std::max_element(sent.begin(), sent.end()),
                  *std::max_element(received.begin(), received.end()));
}

int MostShadows(const ExpertPlacement& owners, const ShadowCosts& costs) {
  std::vector<int> own(owners.num_ranks());
  for (int expert = 0; expert < owners.num_experts(); ++expert) ++own[owners.owner(expert)];
  const int others = owners.num_experts() - *std::max_element(own.begin(), own.end());
  if (costs.shadow_bytes <= 0) return others;
  return static_cast<int>(std::clamp<int64_t>(costs.free_bytes / costs.shadow_bytes, 0, int64_t{others}));
}

// 1, 2, 3, 4, 6, 8, 12, 16, ...
int NextCount(int shadows) {
  if (shadows < 4) return shadows + 1;
  const bool is_power = (shadows & (shadows - 1)) == 0;
  return is_power ? shadows + shadows / 2 : shadows / 3 * 4;
}

ShadowPrice PriceOf(const ShadowCounts& counts, const ExpertPlacement& placement, int shadows,
                    const ShadowCosts& costs) {
  ShadowPrice price{.shadows = shadows, .imbalance = SlotImbalance(counts, placement)};
  if (shadows > 0) {
    price.copies = NumShadows(placement);
    price.moves = MostMoves(placement);
  }
  price.late_seconds = costs.expert_seconds * (price.imbalance - 1);
  price.moving_seconds = price.moves * costs.move_seconds;
  price.bytes = shadows * costs.shadow_bytes;
  price.placement = placement;
  return price;
}

}  // namespace

std::vector<ShadowPrice> PriceShadows(const ShadowCounts& counts, const ExpertPlacement& owners,
                                      const ShadowCosts& costs) {
  std::vector<ShadowPrice> prices{PriceOf(counts, owners, 0, costs)};
  const int most = owners.num_ranks() > 1 ? MostShadows(owners, costs) : 0;
  for (int shadows = 1; shadows <= most; shadows = NextCount(shadows)) {
    const ShadowPrice price = PriceOf(counts, PlaceShadows(counts, owners, shadows), shadows, costs);
    if (price.copies == prices.back().copies) break;  // the ranks are level, or no copy makes them so
    prices.push_back(price);
  }
  return prices;
}

const ShadowPrice& ChooseShadows(const std::vector<ShadowPrice>& prices, const ShadowCosts& costs) {
  const auto less = [](const ShadowPrice& a, const ShadowPrice& b) { return a.seconds() < b.seconds(); };
  const double enough = std::min_element(prices.begin(), prices.end(), less)->seconds() +
                        kWorthwhileShadows * costs.expert_seconds;
  return *std::find_if(prices.begin(), prices.end(),
                       [&](const ShadowPrice& price) { return price.seconds() <= enough; });
}

}  // namespace unipool
