#include "launcher/traffic_report/wait_shares.h"

#include <algorithm>

namespace unipool {
namespace {

constexpr double kExplains = 0.3;  // of what a rank is waited for: what is longer explains it
constexpr double kClear = 0.1;     // of a time: a difference that is no accident
constexpr double kHot = 1.5;       // of the rows and bytes of others
constexpr double kMinor = 0.15;    // of all that explains: left out
// Bytes inside a host never take longer than this while all ranks have a core.
constexpr double kCopyNs = 50'000, kCopyNsPerByte = 2;

class Sharing {
 public:
  explicit Sharing(const VerdictInputs& inputs)
      : manifest_(*inputs.manifest),
        figures_(*inputs.figures),
        traffic_(inputs.traffic),
        world_(static_cast<double>(figures_.ranks.size())) {
    shares_.late.resize(figures_.ranks.size());
    shares_.held.resize(figures_.ranks.size());
    const WaitFigures waits = figures_.MeanWaits();
    shares_.stalled = waits.stalled;
    if (traffic_) shares_.slow_wires = FindSlowWires(*traffic_, manifest_);
    FindHeld();
    FindDrain(waits.Idle());
    FindUneven();
    FindLate(waits.Idle() - shares_.drain - shares_.uneven);
  }
  WaitShares& shares() { return shares_; }

 private:
  double CopyNs(double exchanges, double bytes) const { return exchanges * kCopyNs + bytes * kCopyNsPerByte; }

  // Exposed times of each rank that copies of so many bytes explain.
  std::vector<double> CopiesOfRanks() const {
    std::vector<double> copies;
    for (const RankFigures& rank : figures_.ranks)
      copies.push_back(CopyNs(rank.volume.exchanges, std::max(rank.volume.Wire(), rank.volume.received)));
    if (!traffic_) return copies;
    copies.assign(copies.size(), 0);
    for (const JoinedExchange& exchange : traffic_->exchanges) {
      for (size_t p = 0; p < exchange.parts.size(); ++p) {
        const ExchangePart& part = exchange.parts[p];
        if (!part.recorded || (part.recorded->record.head.flags & ExchangeRecord::kFirstUse)) continue;
        const double moving = CopyNs(1, static_cast<double>(BytesOnWire(part)));
        copies[traffic_->WorldRank(exchange, static_cast<int>(p))] +=
            std::min(static_cast<double>(std::max<int64_t>(0, part.exposed)), moving);
      }
    }
    for (double& ns : copies) ns /= std::max(1.0, figures_.num_steps);
    return copies;
  }

  void FindHeld() {
    const std::vector<double> copies = CopiesOfRanks();
    double off_core = 0;  // of all ranks
    for (size_t r = 0; r < figures_.ranks.size(); ++r) {
      const RankFigures& rank = figures_.ranks[r];
      HeldShare& held = shares_.held[r];
      const double exposed = std::max(0.0, rank.waits.exposed - rank.waits.stalled);
      const double off = std::min(rank.off_core, rank.step);
      off_core += off;
      if (IsKnown(off)) held.compute_without_core = off * rank.Compute() / std::max(1.0, rank.step);
      if (HasNoWire(manifest_)) {
        held.copies = std::min(exposed, copies[r]);
        held.core = exposed - held.copies;
      } else {
        held.wire = exposed;
      }
    }
    LimitToOffCore(off_core);
    for (const HeldShare& held : shares_.held) {
      shares_.copies += held.copies / world_;
      shares_.core_waits += held.core / world_;
      shares_.wire_waits += held.wire / world_;
    }
  }

  // A rank without a core holds others up as well, but for no longer than it has none.
  void LimitToOffCore(double off_core) {
    if (!IsKnown(off_core) || !HasNoWire(manifest_)) return;
    for (HeldShare& held : shares_.held) {
      const double core = std::min(held.core, off_core);
      held.copies += held.core - core;
      held.core = core;
    }
  }

  // The pool's exchanges in a slot without work of the own stage have no layer.
  bool IsDrain(const CellKey& key) const {
    const auto& [communicator, operation, lane, layer] = key;
    return manifest_.stages > 1 && lane >= 0 && layer < 0 &&
           (operation.starts_with("counts") || operation.starts_with("dispatch") ||
            operation.starts_with("combine"));
  }

  void FindDrain(double idle) {
    for (const auto& [key, cell] : figures_.cells) shares_.drain += IsDrain(key) ? cell.waits.Idle() : 0;
    shares_.drain = IsKnown(shares_.drain) ? std::clamp(shares_.drain, 0.0, std::max(0.0, idle)) : 0;
  }

  // A pipeline of equal stages is without work in (S - 1) / (B + S - 1) of its slots.
  void FindUneven() {
    if (manifest_.stages == 1 || manifest_.microbatches <= 0) return;
    const std::vector<double> stages = ComputeOfStages(figures_, manifest_);
    const auto [least, most] = std::minmax_element(stages.begin(), stages.end());
    if (*most < kUnevenStages * *least) return;
    const double bubble = (manifest_.stages - 1.0) / (manifest_.microbatches + manifest_.stages - 1.0);
    shares_.uneven = std::max(0.0, shares_.drain - bubble * figures_.MeanStep());
    shares_.drain -= shares_.uneven;
  }

  // Idle time owed to each rank outside of that, mean of ranks.
  std::vector<double> Owed(double idle) const {
    std::vector<double> owed;
    double sum = 0;
    for (const RankFigures& rank : figures_.ranks)
      owed.push_back(IsKnown(rank.caused) ? std::max(0.0, rank.caused) / world_ : 0);
    for (const auto& [key, cell] : figures_.cells) {
      if (!IsDrain(key)) continue;
      for (const auto& [rank, ns] : cell.owed) owed[rank] = std::max(0.0, owed[rank] - ns);
    }
    for (const double ns : owed) sum += ns;
    // In windows owed times are those of some steps, which stand for all.
    const double factor = sum > 0 && (!figures_.from_records || sum > idle) ? idle / sum : 1;
    for (double& ns : owed) ns *= factor;
    return owed;
  }

  void FindLate(double idle) {
    const std::vector<double> owed = Owed(idle);
    shares_.unowed = idle;
    for (size_t r = 0; r < owed.size(); ++r) {
      shares_.unowed -= owed[r];
      if (owed[r] > 0) ShareOut(r, owed[r]);
    }
    shares_.unowed = std::max(0.0, shares_.unowed);
  }

  template <class Value>
  double Excess(size_t r, Value value) const {
    return ExcessOf(figures_.ranks, r, value);
  }

  // Held up in its own waits, clearly longer than others.
  double HeldLonger(size_t r, double HeldShare::*what) const {
    const double excess = Excess(r, [&](size_t i) { return shares_.held[i].*what; });
    return excess > kClear * figures_.ranks[r].waits.exposed ? excess : 0;
  }

  // Gets clearly more rows, and more bytes with them, than the others.
  bool IsHot(size_t r) const {
    const auto ratio = [&](auto value) { return value(r) / (value(r) - Excess(r, value)); };
    return ratio([&](size_t i) { return figures_.ranks[i].rows; }) > kHot &&
           ratio([&](size_t i) { return figures_.ranks[i].volume.Wire(); }) > kHot;
  }

  // How much longer than the others it had no core, or was stopped: nobody else had its core meanwhile.
  double LackOfCore(size_t r) const {
    const double off = Excess(r, [&](size_t i) { return figures_.ranks[i].off_core; });
    const double stopped =
        Excess(r, [&](size_t i) { return figures_.ranks[i].off_core - figures_.ranks[i].queued; });
    return IsKnown(stopped) ? std::max(off, stopped) : off;
  }

  void ShareOut(size_t r, double owed) {
    LateShare& late = shares_.late[r];
    const double each = owed * world_ / std::max(1.0, world_ - 1);
    const double longer = Excess(r, [&](size_t i) { return figures_.ranks[i].Compute(); });
    const double cut_off = Excess(r, [&](size_t i) { return shares_.held[i].compute_without_core; });
    double core = std::clamp(IsKnown(cut_off) ? cut_off : 0, 0.0, std::max(0.0, longer));
    double computes = std::max(0.0, longer - core);
    core += HeldLonger(r, &HeldShare::core);
    double wire = HeldLonger(r, &HeldShare::wire);
    // Ranks give their core away while they wait, all alike; one that has it less than they do lacks it.
    const double off = LackOfCore(r) - core;
    if (IsKnown(off)) {
      const double part = std::clamp(off, 0.0, wire);
      core += part;
      wire -= part;
    }
    if (IsHot(r)) {  // more bytes come with more rows
      computes += wire;
      wire = 0;
    }
    double all = computes + core + wire;
    if (all < kExplains * each) {
      // It computes no longer than others, and had no core for longer than they waited for it.
      const bool lacks = HasNoWire(manifest_) && figures_.ranks[r].off_core > each;
      if (lacks) {
        late.core = owed;
      } else {  // a slow wire holds up who it serves, all in turns
        late.wire = shares_.slow_wires.empty() ? 0 : owed * shares_.slow_wires.front().share;
        late.turns = owed - late.wire;
      }
      return;
    }
    for (double* one : {&computes, &core, &wire}) {
      if (*one < kMinor * all) *one = 0;
    }
    all = computes + core + wire;
    late.computes = owed * computes / all;
    late.core = owed * core / all;
    late.wire = owed * wire / all;
  }

  const RecordedManifest& manifest_;
  const TrafficFigures& figures_;
  const JoinedTraffic* traffic_;
  const double world_;
  WaitShares shares_;
};

double SumOf(const std::vector<LateShare>& late, double LateShare::*what) {
  double sum = 0;
  for (const LateShare& one : late) sum += one.*what;
  return sum;
}

}  // namespace

double WaitShares::Late() const {
  return unowed + SumOf(late, &LateShare::computes) + SumOf(late, &LateShare::turns);
}
double WaitShares::Core() const {
  return core_waits + SumOf(late, &LateShare::core);
}
double WaitShares::WireLate() const {
  return SumOf(late, &LateShare::wire);
}
double WaitShares::Wire() const {
  return wire_waits + WireLate();
}

std::vector<double> ComputeOfStages(const TrafficFigures& figures, const RecordedManifest& manifest) {
  std::vector<double> sums(manifest.stages), ranks(manifest.stages);
  for (size_t r = 0; r < figures.ranks.size(); ++r) {
    const size_t stage = r / std::max(1, manifest.data) % manifest.stages;
    sums[stage] += figures.ranks[r].Compute();
    ranks[stage] += 1;
  }
  for (size_t s = 0; s < sums.size(); ++s) sums[s] /= std::max(1.0, ranks[s]);
  return sums;
}

WaitShares ShareWaits(const VerdictInputs& inputs) {
  return std::move(Sharing(inputs).shares());
}

}  // namespace unipool
