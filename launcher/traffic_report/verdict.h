// What the numbers of a report say in a sentence, how sure that is, and what to change.
#pragma once

#include <string>
#include <vector>

#include "launcher/traffic_report/exchange_waits.h"
#include "launcher/traffic_report/expert_rows.h"
#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {

struct WaitCause {
  double ns = 0;  // a step, mean of ranks
  std::string what;
  std::string change;     // a setting, or where to look
  bool is_fault = false;  // of a part that can be mended: told however many causes are larger
};

struct Verdict {
  // "skew-dominated": two thirds of waiting is for late ranks. "transfer-dominated": for the wire.
  // "core-dominated": for ranks without a core. "drain-dominated": for pipelines that fill and drain.
  // "mixed": none. "inconclusive": not known, or within the uncertainty of clocks.
  std::string kind;
  std::string reason;             // a sentence, or several
  std::vector<WaitCause> causes;  // at most three, the largest first
  // Idle time whose blame is not the late rank's: a sentence, or "".
  std::string moved_blame;
};

struct VerdictInputs {
  const RecordedManifest* manifest = nullptr;
  const TrafficFigures* figures = nullptr;
  const JoinedTraffic* traffic = nullptr;  // null where there are no records
  const WaitEvidence* evidence = nullptr;  // null where there are no records
  const ExpertRows* experts = nullptr;     // null where they are not known
};
Verdict Judge(const VerdictInputs& inputs);

// Whether stalled time is worth telling.
bool IsStalled(const WaitFigures& waits);

// "12.3 ms", "45 us".
std::string TimeText(double ns);

}  // namespace unipool
