#include "launcher/traffic_report/verdict.h"

#include <algorithm>
#include <map>

#include "launcher/traffic_report/wait_causes.h"
#include "launcher/traffic_report/wait_shares.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr double kMost = 2.0 / 3;  // of waiting: it dominates
constexpr double kSmall = 0.01;    // of the step: not worth a cause
constexpr size_t kMostCauses = 3;

struct Class {
  const char* kind;  // where it dominates
  const char* what;
  double ns;
};

class Judging {
 public:
  explicit Judging(const VerdictInputs& inputs)
      : inputs_(inputs),
        manifest_(*inputs.manifest),
        figures_(*inputs.figures),
        evidence_(inputs.evidence),
        waits_(figures_.MeanWaits()),
        step_(figures_.MeanStep()) {
    if (manifest_.world == 1) {
      verdict_.kind = "one rank";
      verdict_.reason = "One rank exchanges nothing with others.";
      return;
    }
    verdict_.reason = Format("Ranks wait %s of a step of %s (%s).", TimeText(waits_.blocked), TimeText(step_),
                             PercentText(waits_.blocked / step_));
    if (figures_.is_split) {
      shares_ = ShareWaits(inputs);
      AddCauses();
      TellMovedBlame();
      Classify();
    } else {
      AddBlocked();
    }
    std::stable_sort(verdict_.causes.begin(), verdict_.causes.end(),
                     [](const auto& a, const auto& b) { return a.ns > b.ns; });
    std::erase_if(verdict_.causes, [&](const WaitCause& cause) { return cause.ns < kSmall * step_; });
    std::vector<WaitCause>& causes = verdict_.causes;
    if (causes.size() <= kMostCauses) return;
    const auto last = causes.begin() + kMostCauses - 1;
    const auto fault =
        std::find_if(last, causes.end(), [](const WaitCause& cause) { return cause.is_fault; });
    if (fault != causes.end()) std::iter_swap(last, fault);
    causes.resize(kMostCauses);
  }
  Verdict& verdict() { return verdict_; }

 private:
  void AddCauses() {
    const CauseInputs inputs{inputs_, shares_};
    for (const auto& causes_of : {LateCauses, CoreCauses, WireCauses, DrainCauses}) {
      for (WaitCause& cause : causes_of(inputs)) verdict_.causes.push_back(std::move(cause));
    }
    if (!IsStalled(waits_)) return;
    verdict_.causes.push_back(
        {waits_.stalled,
         "bytes stood still: a peer computed outside of MPI, which then moves nothing (stalled)",
         "parallel.progress_thread=ON, with a core for it"});
  }

  void TellMovedBlame() {
    const double wire = shares_.WireLate(), core = shares_.Core() - shares_.core_waits;
    if (wire + core < 0.05 * waits_.Idle()) return;
    const char* why = core < 0.1 * wire   ? "waited for a wire themselves"
                      : wire < 0.1 * core ? "had no core"
                                          : "waited for a wire themselves, or had no core";
    verdict_.moved_blame =
        Format("%s of the idle time (%s) is owed to ranks that %s: the verdict counts it there.",
               TimeText(wire + core), PercentText((wire + core) / std::max(1.0, waits_.Idle())), why);
  }

  // The first is that of late ranks, which clocks may leave open.
  std::vector<Class> Classes() const {
    return {{"skew-dominated", "late ranks", shares_.Late() + shares_.uneven},
            {"transfer-dominated", HasNoWire(manifest_) ? "copies inside the host" : "the wire",
             shares_.Wire() + shares_.copies + shares_.stalled},
            {"core-dominated", "ranks without a core", shares_.Core()},
            {"drain-dominated", "pipelines that fill and drain", shares_.drain}};
  }

  // `doubt` of the time of late ranks may belong to the class that is largest beside it.
  static std::string KindOf(std::vector<Class> classes, double doubt) {
    const auto other = std::max_element(classes.begin() + 1, classes.end(),
                                        [](const Class& a, const Class& b) { return a.ns < b.ns; });
    double all = 0;
    for (const Class& one : classes) all += one.ns;
    classes[0].ns += doubt;
    other->ns -= doubt;
    for (const Class& one : classes) {
      if (one.ns >= kMost * all && all > 0) return one.kind;
    }
    return "mixed";
  }

  void Classify() {
    const double whole = std::max(1.0, waits_.blocked);
    std::vector<Class> classes = Classes();
    std::string parts;
    for (const Class& one : classes) {
      const double ns = &one == &classes[1] ? one.ns - waits_.stalled : one.ns;
      if (ns<0.005 * whole&& & one> & classes[1]) continue;
      parts += Format("%s for %s %s", parts.empty() ? "" : ",", one.what, PercentText(ns / whole));
    }
    if (IsStalled(waits_))
      parts += Format(", for a transport that did not move %s", PercentText(waits_.stalled / whole));
    parts[1] = 'F';
    verdict_.reason += parts + ".";
    const double doubt = figures_.idle_uncertainty;
    if (doubt > 0) verdict_.reason += Format(" Clocks leave +- %s of it open.", TimeText(doubt));
    verdict_.kind = KindOf(classes, 0);
    if (evidence_ && evidence_->causality.Breached()) {
      Doubt("blocks would have arrived before they were sent: clocks of hosts do not fit together");
    } else if (KindOf(classes, -doubt) != KindOf(classes, doubt)) {
      Doubt("it depends on what clocks leave open");
    } else if (evidence_ && doubt > 0 && evidence_->clock_free.Disagrees()) {
      Doubt(Format("exchanges with level sizes took %s by clocks and at most %s without them",
                   TimeText(evidence_->clock_free.by_clocks_ns), TimeText(evidence_->clock_free.without_ns)));
    }
    if (waits_.blocked < 0.05 * step_) verdict_.reason += " There is little to gain from less waiting.";
  }

  void Doubt(const std::string& why) {
    verdict_.kind = "inconclusive";
    verdict_.reason += " Not decided: " + why + ".";
  }

  void AddBlocked() {
    verdict_.kind = "inconclusive";
    verdict_.reason +=
        std::string(" What for is not known: ") +
        (figures_.from_records
             ? "records of ranks are missing, or their clocks were never compared."
             : "the sums of windows have no times of the other ranks; traffic.record=FULL records them.");
    std::map<std::string, double> operations;
    for (const auto& [key, cell] : figures_.cells) operations[std::get<1>(key)] += cell.waits.blocked;
    for (const auto& [name, ns] : operations) {
      verdict_.causes.push_back({ns, Format("ranks are blocked in '%s'", name),
                                 "traffic.record=FULL tells late ranks from a slow wire"});
    }
  }

  const VerdictInputs& inputs_;
  const RecordedManifest& manifest_;
  const TrafficFigures& figures_;
  const WaitEvidence* const evidence_;
  const WaitFigures waits_;
  const double step_;
  WaitShares shares_;
  Verdict verdict_;
};

}  // namespace

bool IsStalled(const WaitFigures& waits) {
  return waits.stalled > 0.01 * waits.blocked;
}

std::string TimeText(double ns) {
  if (!IsKnown(ns)) return "unknown";
  if (std::abs(ns) >= 1e9) return Format("%.3f s", ns * 1e-9);
  if (std::abs(ns) >= 1e7) return Format("%.1f ms", ns * 1e-6);
  if (std::abs(ns) >= 1e6) return Format("%.2f ms", ns * 1e-6);
  return Format("%.0f us", ns * 1e-3);
}

Verdict Judge(const VerdictInputs& inputs) {
  return std::move(Judging(inputs).verdict());
}

}  // namespace unipool
