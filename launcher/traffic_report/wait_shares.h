// What ranks wait for, by reason: every nanosecond is counted once, so that causes never add up to more than
// the waits. Pure: figures in, figures out.
#pragma once

#include <algorithm>
#include <vector>

#include "launcher/traffic_report/slow_wire.h"
#include "launcher/traffic_report/traffic_figures.h"
#include "launcher/traffic_report/verdict.h"

namespace unipool {

// Idle times of others that are owed to one rank, ns a step, mean of ranks: why it was late.
struct LateShare {
  double computes = 0;  // it computes longer than the others, or gets more rows
  double core = 0;      // it had no core
  double wire = 0;      // it waited for a wire itself
  double turns = 0;     // none of these: in all it is no slower
  double Sum() const { return computes + core + wire + turns; }
};

// One rank's own waits and core, ns a step.
struct HeldShare {
  double copies = 0;  // of exposed: bytes that move inside the memory of a host
  double core = 0;    // of exposed: it, or a peer on its host, had no core
  double wire = 0;    // the rest of exposed, without what stood still
  double compute_without_core = kUnknown;
};

// ns a step, mean of ranks. Together they are idle + exposed.
struct WaitShares {
  double drain = 0;   // idle in slots in which the rank's stage has no work: the pipeline fills or drains
  double uneven = 0;  // more of such idle time than that explains: stages have unequal work
  double unowed = 0;  // idle that is owed to nobody in particular
  double stalled = 0, copies = 0;
  double core_waits = 0, wire_waits = 0;  // of exposed
  std::vector<LateShare> late;            // by rank
  std::vector<HeldShare> held;            // by rank
  std::vector<SlowWire> slow_wires;       // that explain waits for wires; one at most
  double Late() const;                    // ranks that compute longer, or take turns
  double Core() const;
  double Wire() const;
  double WireLate() const;  // of Wire: idle times
};

// REQUIRES: the figures are split, and of all exchanges.
WaitShares ShareWaits(const VerdictInputs& inputs);

// Mean over the ranks of each stage.
std::vector<double> ComputeOfStages(const TrafficFigures& figures, const RecordedManifest& manifest);
// Of the stage that computes longest to the one that does least: stages have unequal work.
inline constexpr double kUnevenStages = 1.15;

// How much more than the mean of the others.
template <class Value>
double ExcessOf(const std::vector<RankFigures>& ranks, size_t rank, Value value) {
  double others = 0;
  for (size_t r = 0; r < ranks.size(); ++r) others += r == rank ? 0 : value(r);
  return value(rank) - others / std::max<double>(1, static_cast<double>(ranks.size()) - 1);
}

}  // namespace unipool
