#include <algorithm>
#include <cmath>
#include <numeric>

#include "launcher/traffic_report/wait_causes.h"
#include "launcher/traffic_report/wait_shares.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr double kMuch = 1.5,
                 kMostOwed = 0.6;     // of an even share of late time, and of all of it: names a rank
constexpr double kPlace = 0.25;       // of what a rank is waited for: worth naming where
constexpr double kMoreRows = 1.15;    // of the rows of others
constexpr double kMuchLonger = 1.15;  // than others compute: names a second rank

constexpr const char* kEvenCut =
    "an even cut of layers: parallel.layers_per_stage (unipool info shows the one it would choose), or "
    "parallel.head=SPREAD";

class LateFinder {
 public:
  explicit LateFinder(const CauseInputs& inputs)
      : inputs_(inputs.inputs),
        manifest_(*inputs_.manifest),
        figures_(*inputs_.figures),
        shares_(inputs.shares),
        idle_(std::max(1.0, figures_.MeanWaits().Idle())) {
    const double all = shares_.Late();
    double left = all;
    for (const size_t rank : Latest()) {
      const double ns = Share(rank);
      const bool is_first = left == all;
      if (ns <= 0.05 * idle_ || ns <= std::min(is_first ? kMuch / World() : 1 / World(), kMostOwed) * all)
        break;
      if (!is_first && ComputesLonger(rank) < kMuchLonger) continue;
      AddRank(static_cast<int>(rank), ns);
      left -= ns;
    }
    AddTurns(left);
  }
  std::vector<WaitCause>& causes() { return causes_; }

 private:
  double World() const { return static_cast<double>(figures_.ranks.size()); }
  double Share(size_t r) const { return shares_.late[r].computes + shares_.late[r].turns; }

  // Ranks, the one that others wait for most first.
  std::vector<size_t> Latest() const {
    std::vector<size_t> order(shares_.late.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return Share(a) > Share(b); });
    return order;
  }

  // Compute of its stage / the mean of the others, where all ranks of the stage are as slow; else 1.
  double StageLonger(size_t rank) const {
    if (manifest_.stages == 1 || manifest_.data < 2) return 1;
    const std::vector<double> stages = ComputeOfStages(figures_, manifest_);
    const size_t own = rank / manifest_.data % stages.size();
    if (figures_.ranks[rank].Compute() > kMuchLonger * stages[own]) return 1;
    const double all = std::accumulate(stages.begin(), stages.end(), 0.0);
    return stages[own] * (static_cast<double>(stages.size()) - 1) / std::max(1.0, all - stages[own]);
  }

  // Its compute / the mean of the others.
  double ComputesLonger(size_t rank) const {
    const auto compute = [&](size_t r) { return figures_.ranks[r].Compute(); };
    return compute(rank) / std::max(1.0, compute(rank) - ExcessOf(figures_.ranks, rank, compute));
  }

  // Where others wait for this rank most, and its share of what they wait for it.
  std::string PlaceOf(int rank) const {
    const CellKey* place = nullptr;
    double most = 0, sum = 0;
    for (const auto& [key, cell] : figures_.cells) {
      const auto found = cell.owed.find(rank);
      if (found == cell.owed.end()) continue;
      sum += found->second;
      if (found->second <= most) continue;
      most = found->second;
      place = &key;
    }
    if (!place || most < kPlace * sum) return "";
    const auto& [communicator, operation, lane, layer] = *place;
    const std::string where = operation + (layer >= 0 ? Format(" of layer %d", layer) : "");
    return Format(", most for it (%s) in %s", PercentText(most / sum), where);
  }

  void AddRank(int rank, double ns) {
    const LateShare& late = shares_.late[rank];
    const double rows = RowsRatio(figures_, rank), compute = ComputesLonger(rank);
    WaitCause cause{.ns = ns};
    cause.what = Format("others wait for %s: %s of all idle time%s", RankName(manifest_, rank),
                        PercentText(ns / idle_), PlaceOf(rank));
    const std::string both = IsKnown(rows) ? Format(" on %.2f x their rows", rows) : "";
    if (late.turns > late.computes) {
      cause.what += "; in all it computes no longer than the others";
      cause.change = inputs_.traffic
                         ? "what it does before it is waited for: the time line shows it (--trace)"
                         : "what it does before it is waited for: records of single exchanges "
                           "(traffic.record=FULL) and their time line (--trace) show it";
    } else if (StageLonger(rank) >= kUnevenStages) {
      cause.what +=
          Format("; ranks of its stage compute %.2f x as long as others%s", StageLonger(rank), both);
      cause.change = kEvenCut;
    } else if (IsKnown(rows) && rows > kMoreRows && rows - 1 > 0.3 * (compute - 1)) {
      cause.what += Format("; it computes %.2f x as long as the others and ", compute);
      cause.what += MoreRowsText(inputs_, rank);
      cause.change = HotExpertsAdvice(manifest_);
    } else {
      cause.what += Format("; it computes %.2f x as long as the others%s", compute, both);
      cause.change = manifest_.stages > 1
                         ? "a slow or shared host (unipool check_nodes), or an uneven cut of layers: "
                           "parallel.layers_per_stage, parallel.head"
                         : "a slow or shared processor: compare nodes with unipool check_nodes, or leave "
                           "this one out";
    }
    causes_.push_back(cause);
  }

  void AddTurns(double ns) {
    std::string what = "ranks take turns at being late";
    double imbalance = kUnknown;
    for (const StepFigures& step : figures_.steps)
      imbalance = IsKnown(step.imbalance) ? step.imbalance : imbalance;
    if (IsKnown(imbalance))
      what += Format(": in a slot the busiest rank receives %.2f x the mean rows", imbalance);
    const std::string balance = manifest_.balance == "NONE"
                                    ? "a balancing loss (moe.balance=POOL_LOSS)"
                                    : "a stronger balance (moe.balance, moe.balance_coeff)";
    causes_.push_back({ns, what,
                       "level the rows: a smaller parallel.replace_every, " + balance +
                           "; a larger train.micro_batch evens them out"});
  }

  const VerdictInputs& inputs_;
  const RecordedManifest& manifest_;
  const TrafficFigures& figures_;
  const WaitShares& shares_;
  const double idle_;
  std::vector<WaitCause> causes_;
};

}  // namespace

std::vector<WaitCause> LateCauses(const CauseInputs& inputs) {
  return std::move(LateFinder(inputs).causes());
}

std::vector<WaitCause> DrainCauses(const CauseInputs& inputs) {
  const RecordedManifest& manifest = *inputs.inputs.manifest;
  std::vector<WaitCause> causes;
  if (inputs.shares.uneven > 0) {
    const std::vector<double> compute = ComputeOfStages(*inputs.inputs.figures, manifest);
    const auto [least, most] = std::minmax_element(compute.begin(), compute.end());
    causes.push_back(
        {inputs.shares.uneven,
         Format("stages have unequal work: a rank of stage %d computes %s of a step, one of "
                "stage %d %s, and waits",
                most - compute.begin(), TimeText(*most), least - compute.begin(), TimeText(*least)),
         kEvenCut});
  }
  if (inputs.shares.drain <= 0) return causes;
  const int stages = manifest.stages, microbatches = manifest.microbatches;
  std::string what = Format(
      "fill and drain (the pipeline's bubble): ranks of %d stages wait in slots in which their "
      "own stage has no work",
      stages);
  if (microbatches > 0) {
    const double bubble = static_cast<double>(stages - 1) / (microbatches + stages - 1);
    what += Format("; %d microbatches leave it none in %s of its slots", microbatches, PercentText(bubble));
  }
  causes.push_back(
      {inputs.shares.drain, what,
       "more microbatches a step: a larger train.global_batch, or a smaller train.micro_batch; or "
       "fewer parallel.stages"});
  return causes;
}

std::string RankName(const RecordedManifest& manifest, int rank) {
  const std::vector<int>& nodes = manifest.node_of_rank;
  std::string name = Format("rank %d", rank);
  if (*std::max_element(nodes.begin(), nodes.end()) > 0) name += Format(" (node %d)", nodes[rank]);
  return name;
}

std::string PercentText(double share) {
  return Format("%.0f %%", 100 * share);
}

double RowsRatio(const TrafficFigures& figures, int rank) {
  const double own = figures.ranks[rank].rows;
  const double more = ExcessOf(figures.ranks, rank, [&](size_t r) { return figures.ranks[r].rows; });
  return own / (own - more);
}

std::string MoreRowsText(const VerdictInputs& inputs, int rank) {
  const double ratio = RowsRatio(*inputs.figures, rank);
  return (std::isinf(ratio) ? "receives all rows, and the others none"
                            : Format("receives %.2f x the rows of the others", ratio)) +
         HotLayersText(*inputs.figures, rank) + (inputs.experts ? HotExpertsText(*inputs.experts, rank) : "");
}

std::string HotLayersText(const TrafficFigures& figures, int rank) {
  std::vector<std::pair<double, int>> layers;
  for (const auto& [layer, rows] : figures.rows) {
    double sum = 0;
    for (const double count : rows) sum += count;
    const double ratio = rows[rank] * static_cast<double>(rows.size()) / std::max(1.0, sum);
    if (layer >= 0 && ratio > kMoreRows) layers.emplace_back(ratio, layer);
  }
  if (layers.empty() || layers.size() == figures.rows.size()) return "";
  std::sort(layers.rbegin(), layers.rend());
  layers.resize(std::min<size_t>(3, layers.size()));
  std::string text = ", most in layer";
  for (size_t i = 0; i < layers.size(); ++i)
    text += Format("%s %d (%.1f x)", i == 0 ? "" : ",", layers[i].second, layers[i].first);
  return text;
}

std::string HotExpertsAdvice(const RecordedManifest& manifest) {
  return std::string("hot experts: a smaller parallel.replace_every places them anew, ") +
         (manifest.balance == "NONE" ? "a balancing loss (moe.balance=POOL_LOSS) spreads tokens"
                                     : "a stronger balance (moe.balance, moe.balance_coeff) spreads tokens");
}

}  // namespace unipool
