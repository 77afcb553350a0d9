#include "launcher/experts/expert_figures.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace unipool {
namespace {

constexpr int64_t kTop = 16;

const double* RowOf(const std::vector<double>& numbers, const ExpertTables& tables, int64_t layer) {
  return numbers.data() + layer * tables.experts;
}

double SumOf(const double* numbers, int64_t n) {
  return std::accumulate(numbers, numbers + n, 0.0);
}

// Share of the layer's choices that go to these experts.
double ShareOf(const ExpertTables& tables, int64_t layer, const std::vector<int64_t>& experts) {
  const double* counts = RowOf(tables.counts, tables, layer);
  const double total = SumOf(counts, tables.experts);
  double part = 0;
  for (const int64_t i : experts) part += counts[i];
  return total > 0 ? part / total : 0;
}

}  // namespace

std::vector<int64_t> TopSet(const ExpertTables& tables, int64_t layer, int64_t k) {
  const double* counts = RowOf(tables.counts, tables, layer);
  std::vector<int64_t> order(tables.experts);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return counts[a] > counts[b]; });
  order.resize(std::min(k, tables.experts));
  std::erase_if(order, [&](int64_t i) { return counts[i] <= 0; });
  return order;
}

std::vector<LayerUse> UseOfLayers(const ExpertTables& tables) {
  std::vector<LayerUse> uses;
  for (int64_t l = 0; l < tables.layers; ++l) {
    const double* counts = RowOf(tables.counts, tables, l);
    const double total = SumOf(counts, tables.experts);
    LayerUse use;
    for (int64_t i = 0; i < tables.experts; ++i) {
      if (counts[i] <= 0) continue;
      use.entropy -= counts[i] / total * std::log2(counts[i] / total);
      ++use.used;
    }
    use.effective = std::exp2(use.entropy);
    use.top_share = ShareOf(tables, l, TopSet(tables, l, kTop));
    uses.push_back(use);
  }
  return uses;
}

double MeanJaccard(const ExpertTables& tables, int64_t k) {
  double sum = 0;
  int64_t pairs = 0;
  for (int64_t a = 0; a < tables.layers; ++a) {
    for (int64_t b = a + 1; b < tables.layers; ++b, ++pairs) {
      const std::vector<int64_t> one = TopSet(tables, a, k), other = TopSet(tables, b, k);
      const auto common = std::count_if(one.begin(), one.end(), [&](int64_t i) {
        return std::find(other.begin(), other.end(), i) != other.end();
      });
      const size_t all = one.size() + other.size() - common;
      sum += all > 0 ? static_cast<double>(common) / static_cast<double>(all) : 0;
    }
  }
  return pairs > 0 ? sum / static_cast<double>(pairs) : 0;
}

std::vector<TopUnion> TopUnions(const ExpertTables& tables) {
  std::vector<TopUnion> unions;
  for (const int64_t k : {1, 2, 3, 5, 8, 10, 16, 20, 32, 48, 64}) {
    if (k > tables.experts) break;
    std::vector<bool> in_union(tables.experts);
    TopUnion top{.k = k};
    for (int64_t l = 0; l < tables.layers; ++l) {
      const std::vector<int64_t> set = TopSet(tables, l, k);
      for (const int64_t i : set) in_union[i] = true;
      top.coverage += ShareOf(tables, l, set) / static_cast<double>(tables.layers);
    }
    top.size = std::count(in_union.begin(), in_union.end(), true);
    top.of_pool = static_cast<double>(top.size) / static_cast<double>(tables.experts);
    top.saturation =
        static_cast<double>(top.size) / static_cast<double>(std::min(k * tables.layers, tables.experts));
    unions.push_back(top);
  }
  return unions;
}

std::vector<ExpertUseOf> RankedExperts(const ExpertTables& tables) {
  std::vector<ExpertUseOf> experts(tables.experts);
  for (int64_t at = 0; at < tables.layers * tables.experts; ++at) {
    ExpertUseOf& expert = experts[at % tables.experts];
    expert.expert = at % tables.experts;
    expert.layers += tables.counts[at] > 0;
    expert.count += tables.counts[at];
    expert.mass += tables.mass[at];
    if (tables.importance) expert.importance += (*tables.importance)[at];
    if (tables.ucb) expert.ucb += (*tables.ucb)[at];
  }
  const auto rank = [&](const ExpertUseOf& e) { return tables.ucb ? e.ucb : e.mass; };
  std::stable_sort(experts.begin(), experts.end(),
                   [&](const ExpertUseOf& a, const ExpertUseOf& b) { return rank(a) > rank(b); });
  return experts;
}

}  // namespace unipool
