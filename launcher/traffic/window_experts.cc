#include "launcher/traffic/window_experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace unipool {

void WindowExperts::AddStep(std::span<const double> counts, const ExpertPlacement& placement,
                            const Visibility& visibility) {
  if (rows_.size() != counts.size()) rows_.assign(counts.size(), 0);  // the first step, or another pool
  for (size_t i = 0; i < counts.size(); ++i) rows_[i] += std::llround(counts[i]);
  owner_.resize(placement.num_experts());
  for (int expert = 0; expert < placement.num_experts(); ++expert) owner_[expert] = placement.owner(expert);
  shadows_.clear();
  for (int rank = 0; rank < placement.num_ranks() && placement.num_shadows() > 0; ++rank) {
    for (const int expert : placement.shadows_of(rank)) {
      if (expert >= 0) shadows_.emplace_back(expert, rank);
    }
  }
  choosable_.resize(counts.size() / std::max<size_t>(1, owner_.size()));
  for (size_t layer = 0; layer < num_layers(); ++layer)
    choosable_[layer] = visibility.num_choosable(static_cast<int>(layer));
}

nlohmann::ordered_json WindowExperts::ToJson() const {
  using Json = nlohmann::ordered_json;
  if (empty()) return {};
  Json layers = Json::array();
  for (size_t layer = 0; layer < num_layers(); ++layer) {
    const std::span<const int64_t> rows = std::span(rows_).subspan(layer * owner_.size(), owner_.size());
    std::vector<int> order(rows.size());
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](int expert) { return rows[expert] == 0; });
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return rows[a] > rows[b]; });
    order.resize(std::min(order.size(), kMostExpertsInWindows));
    Json most = Json::array();
    for (const int expert : order) most.push_back({expert, rows[expert]});
    layers.push_back({{"layer", layer},
                      {"choosable", choosable_[layer]},
                      {"rows", std::accumulate(rows.begin(), rows.end(), int64_t{0})},
                      {"most", std::move(most)}});
  }
  Json shadows = Json::array();
  for (const auto& [expert, rank] : shadows_) shadows.push_back({expert, rank});
  return {{"owner", owner_}, {"shadows", std::move(shadows)}, {"layers", std::move(layers)}};
}

}  // namespace unipool
