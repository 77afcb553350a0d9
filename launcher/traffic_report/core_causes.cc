#include <algorithm>

#include "launcher/traffic_report/wait_causes.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr double kMuch = 1.5;      // of the next rank's: the one at fault
constexpr double kTelling = 0.05;  // of the step without a core

class CoreFinder {
 public:
  explicit CoreFinder(const CauseInputs& inputs)
      : manifest_(*inputs.inputs.manifest), figures_(*inputs.inputs.figures), shares_(inputs.shares) {
    if (shares_.Core() <= 0) return;
    const Values at_fault = AtFault();
    double sum = 0;
    for (const auto& [value, rank] : at_fault) sum += value;
    for (const auto& [value, rank] : at_fault) causes_.push_back(Named(rank, shares_.Core() * value / sum));
    if (!causes_.empty()) return;
    causes_.push_back(
        {shares_.Core(),
         "ranks wait for others that have no core, or are held up themselves for want of one: " + TextOfAll(),
         AdviceOfAll()});
  }
  std::vector<WaitCause>& causes() { return causes_; }

 private:
  // Stopped, which no other had its core for; -1 where the system does not say.
  double Stopped(size_t r) const {
    const double stopped = figures_.ranks[r].off_core - figures_.ranks[r].queued;
    return IsKnown(stopped) ? std::max(0.0, stopped) : -1;
  }

  // By who waits for it, and how long it is held up in its own waits.
  double Blame(size_t r) const {
    const double held = ExcessOf(figures_.ranks, r, [&](size_t i) { return shares_.held[i].core; });
    return shares_.late[r].core * static_cast<double>(figures_.ranks.size()) + std::max(0.0, held);
  }

  // Than the others do, where that is known.
  bool LacksMore(size_t r) const {
    const double more = ExcessOf(figures_.ranks, r, [&](size_t i) { return figures_.ranks[i].off_core; });
    return !IsKnown(more) || more > kTelling * figures_.ranks[r].step;
  }

  using Values = std::vector<std::pair<double, int>>;  // with their ranks

  // The ranks, half of all at most, whose value is much larger than any other's, and tells.
  template <class Value>
  Values Outstanding(Value value) const {
    Values order;
    for (size_t r = 0; r < figures_.ranks.size(); ++r) order.emplace_back(value(r), static_cast<int>(r));
    std::sort(order.rbegin(), order.rend());
    for (size_t count = 1; 2 * count <= order.size(); ++count) {
      const auto [least, rank] = order[count - 1];
      if (least <= kTelling * figures_.ranks[rank].step) break;
      if (least <= kMuch * order[count].first) continue;
      order.resize(count);
      return order;
    }
    return {};
  }

  // On a crowded host ranks give their cores away while they wait, so time without one alone does not tell.
  Values AtFault() const {
    Values found = Outstanding([&](size_t r) { return Stopped(r); });
    if (found.empty()) found = Outstanding([&](size_t r) { return LacksMore(r) ? Blame(r) : 0; });
    if (!found.empty()) return found;
    return Outstanding([&](size_t r) {
      const double off = figures_.ranks[r].off_core;
      return IsKnown(off) ? off : -1;
    });
  }

  WaitCause Named(int rank, double ns) const {
    const RankFigures& figures = figures_.ranks[rank];
    WaitCause cause{.ns = ns};
    cause.what = Format("%s goes without a core", RankName(manifest_, rank));
    if (IsKnown(figures.off_core)) {
      cause.what += Format(" for %s of a step (%s)", TimeText(figures.off_core),
                           PercentText(figures.off_core / std::max(1.0, figures.step)));
      if (IsKnown(figures.queued))
        cause.what += Format(", in %s of it others had its core", TimeText(figures.queued));
      if (figures.pushed_off >= 1) cause.what += Format(", pushed off it %.0f times", figures.pushed_off);
    } else {
      cause.what += ", or was stopped";
    }
    const double others = std::max(1.0, static_cast<double>(figures_.ranks.size()) - 1);
    cause.what += Format("; others wait for it %s", TimeText(figures.caused / others));
    if (shares_.held[rank].core > 0)
      cause.what +=
          Format(", and it is held up %s in waits that need no time", TimeText(shares_.held[rank].core));
    cause.change = AdviceOf(rank);
    return cause;
  }

  std::string TextOfAll() const {
    std::string text;
    double off = 0, step = 0;
    for (const RankFigures& rank : figures_.ranks) {
      off += rank.off_core;
      step += rank.step;
    }
    text = IsKnown(off) ? Format("all together %s of their time", PercentText(off / std::max(1.0, step)))
                        : "no single one stands out";
    return text;
  }

  // Ranks on the host, and cores that they may use; cores 0: not known.
  std::pair<int, int> HostOf(int rank) const {
    int ranks = 0;
    for (const std::string& host : manifest_.host_of_rank) ranks += host == manifest_.host_of_rank[rank];
    return {ranks, manifest_.host_cores_of_rank[rank]};
  }

  std::string AdviceOfAll() const {
    const auto [ranks, cores] = HostOf(0);
    if (cores > 0 && ranks > cores)
      return Format("%d ranks share %d %s of host %s: fewer ranks there, or more cores", ranks, cores,
                    cores == 1 ? "core" : "cores", manifest_.host_of_rank[0]);
    return "ranks were stopped (a signal, a debugger), or share their cores with others: end them, or bind "
           "ranks to cores of their own (unipool check_nodes)";
  }

  std::string AdviceOf(int rank) const {
    const RankFigures& figures = figures_.ranks[rank];
    const bool is_known = Stopped(rank) >= 0 && figures.off_core > kTelling * figures.step;
    const double stopped = ExcessOf(figures_.ranks, rank, [&](size_t r) { return Stopped(r); });
    const double queued = ExcessOf(figures_.ranks, rank, [&](size_t r) { return figures_.ranks[r].queued; });
    if (is_known && stopped > queued)
      return "for much of it nobody else had its core: it was stopped (a signal, a debugger), or waited "
             "for a disk or for swapped memory";
    if (is_known)
      return "other programs, or other ranks, run on its core: end them, or bind ranks to cores of their own "
             "(unipool check_nodes)";
    return "it was stopped (a signal, a debugger), or shares its core with others: end them, or bind ranks "
           "to "
           "cores of their own (unipool check_nodes)";
  }

  const RecordedManifest& manifest_;
  const TrafficFigures& figures_;
  const WaitShares& shares_;
  std::vector<WaitCause> causes_;
};

}  // namespace

std::vector<WaitCause> CoreCauses(const CauseInputs& inputs) {
  return std::move(CoreFinder(inputs).causes());
}

}  // namespace unipool
