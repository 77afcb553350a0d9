// The causes of a verdict, in words: what ranks wait for, and what to change. Those of one list hold times
// that no other list holds.
#pragma once

#include <string>
#include <vector>

#include "launcher/traffic_report/verdict.h"
#include "launcher/traffic_report/wait_shares.h"

namespace unipool {

struct CauseInputs {
  const VerdictInputs& inputs;
  const WaitShares& shares;
};

// A rank that is late most, and ranks that take turns.
std::vector<WaitCause> LateCauses(const CauseInputs& inputs);
// Ranks that lack a core, or were stopped.
std::vector<WaitCause> CoreCauses(const CauseInputs& inputs);
// A slow wire, or the operations that wait for wires; copies inside of a host.
std::vector<WaitCause> WireCauses(const CauseInputs& inputs);
// Stages without work at both ends of a step.
std::vector<WaitCause> DrainCauses(const CauseInputs& inputs);

// "rank 3", "rank 3 (node 1)".
std::string RankName(const RecordedManifest& manifest, int rank);
// "44 %".
std::string PercentText(double share);
// How many times the mean rows of the others a rank receives; NaN: not known.
double RowsRatio(const TrafficFigures& figures, int rank);
// "receives 2.10 x the rows of the others", where most of them, and which experts they are for.
std::string MoreRowsText(const VerdictInputs& inputs, int rank);
// ", most in layer 3 (2.1 x)": where a rank receives clearly more rows than the mean; "": nowhere.
std::string HotLayersText(const TrafficFigures& figures, int rank);

// What to change where a rank's experts are hot.
std::string HotExpertsAdvice(const RecordedManifest& manifest);

}  // namespace unipool
