#include "launcher/traffic_report/expert_rows.h"

#include <algorithm>
#include <numeric>

#include "runtime/format.h"

namespace unipool {
namespace {

constexpr double kHot = 1.5;    // of the mean of experts
constexpr size_t kMostHot = 3;  // experts that are named

double SumOf(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

void Add(const RecordedWindow& window, int only_layer, ExpertRows& rows) {
  if (rows.num_steps == 0) rows.first = window.first_step;
  rows.last = window.last_step;
  rows.num_steps += static_cast<double>(window.steps);
  rows.rows.resize(window.expert_owner.size());
  for (const WindowExpertRows& of_layer : window.expert_rows) {
    if (only_layer >= 0 && of_layer.layer != only_layer) continue;
    const auto found = std::find(rows.layers.begin(), rows.layers.end(), of_layer.layer);
    const size_t i = found - rows.layers.begin();
    if (found == rows.layers.end()) rows.layers.push_back(of_layer.layer);
    rows.sums.resize(rows.layers.size(), 0);
    rows.choosable.resize(rows.layers.size(), 0);
    rows.sums[i] += static_cast<double>(of_layer.rows);
    rows.choosable[i] = static_cast<double>(of_layer.choosable);
    int64_t listed = 0;
    for (const auto& [expert, count] : of_layer.most) {
      rows.rows[expert].resize(std::max(rows.rows[expert].size(), i + 1), 0);
      rows.rows[expert][i] += static_cast<double>(count);
      listed += count;
    }
    rows.is_whole = rows.is_whole && listed == of_layer.rows;
  }
  rows.ranks.assign(rows.rows.size(), {});
  for (size_t expert = 0; expert < window.expert_owner.size(); ++expert)
    rows.ranks[expert].push_back(window.expert_owner[expert]);
  for (const auto& [expert, rank] : window.shadows) rows.ranks[expert].push_back(rank);
}

}  // namespace

ExpertRows ExpertRowsOf(const RecordedRun& run, int64_t first, int64_t last, int layer) {
  const auto has_rows = [](const RecordedWindow& window) { return !window.expert_rows.empty(); };
  const auto is_asked = [&](const RecordedWindow& window) {
    return has_rows(window) && window.first_step <= last && window.last_step >= first;
  };
  const bool any = std::any_of(run.windows.begin(), run.windows.end(), is_asked);
  std::vector<const RecordedWindow*> windows;
  for (const RecordedWindow& window : run.windows) {
    if (any ? is_asked(window) : has_rows(window)) windows.push_back(&window);
  }
  ExpertRows rows;
  rows.pool = std::max(1, run.manifest.pool);
  for (const RecordedWindow* window : windows) {
    // After a pool was shrunk its experts have other numbers.
    if (window->expert_owner.size() == windows.back()->expert_owner.size()) Add(*window, layer, rows);
  }
  const double each = 1 / std::max(1.0, rows.num_steps);
  for (std::vector<double>& expert : rows.rows) {
    expert.resize(rows.layers.size(), 0);
    for (double& count : expert) count *= each;
  }
  for (double& sum : rows.sums) sum *= each;
  return rows;
}

double ExpertRows::Sum() const {
  return SumOf(sums);
}

double ExpertRows::RowsOf(int expert) const {
  return SumOf(rows[expert]);
}

double ExpertRows::Share(int expert) const {
  return Sum() > 0 ? RowsOf(expert) / Sum() : 0;
}

double ExpertRows::Ratio(int expert) const {
  return Share(expert) * num_experts();
}

double ExpertRows::Ratio(int expert, size_t i) const {
  return sums[i] > 0 ? rows[expert][i] * choosable[i] / sums[i] : 0;
}

size_t ExpertRows::MostIn(int expert) const {
  return std::max_element(rows[expert].begin(), rows[expert].end()) - rows[expert].begin();
}

std::vector<int> ExpertRows::Ordered() const {
  std::vector<int> order(rows.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<double> all;
  for (const int expert : order) all.push_back(RowsOf(expert));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return all[a] > all[b]; });
  return order;
}

int ExpertRows::NumUnused() const {
  int unused = 0;
  for (int expert = 0; expert < num_experts(); ++expert) unused += RowsOf(expert) == 0;
  return unused;
}

bool ExpertRows::LivesOn(int expert, int world_rank) const {
  return std::find(ranks[expert].begin(), ranks[expert].end(), world_rank % pool) != ranks[expert].end();
}

std::string ExpertRows::RanksText(int expert) const {
  std::string text;
  for (size_t i = 0; i < ranks[expert].size(); ++i)
    text += (i == 0 ? "" : i == 1 ? ", copies on " : " ") + std::to_string(ranks[expert][i]);
  return text.empty() ? "-" : text;
}

std::string HotExpertsText(const ExpertRows& rows, int world_rank) {
  std::string text;
  size_t count = 0;
  if (rows.num_steps == 0) return text;
  for (const int expert : rows.Ordered()) {
    if (rows.Ratio(expert) < kHot || count == kMostHot) break;
    if (!rows.LivesOn(expert, world_rank)) continue;
    if (++count > 1) {
      text += Format("%s %d (%.1f x)", count == 2 ? "; then" : ",", expert, rows.Ratio(expert));
      continue;
    }
    const size_t most = rows.MostIn(expert);
    text = Format("; its expert %d alone gets %.0f %% of all rows, %.1f x the mean of experts", expert,
                  100 * rows.Share(expert), rows.Ratio(expert));
    if (rows.layers.size() > 1)
      text += Format(", most in layer %d (%.1f x)", rows.layers[most], rows.Ratio(expert, most));
  }
  return text.empty() ? text : text + Format(" (steps %d to %d)", rows.first, rows.last);
}

}  // namespace unipool
