// A step takes as long as its slowest rank. metrics.jsonl has rank 0's time; what the folder traffic/ has
// tells that of the others.
#pragma once

#include <string>

#include "launcher/traffic_report/recorded_run.h"

namespace unipool {

struct SlowestStep {
  double seconds = 0;
  std::string source;  // whose time it is and of what, for people: "the slowest rank (1) of recorded step 3"
};

// What is asked of a run's records.
struct StepOfRun {
  double first_rank_seconds = 0;  // rank 0's step: the median of the run, by metrics.jsonl
  int ranks = 1;
  bool is_emulated = false;
  int64_t step = -1;  // recorded exchange by exchange; -1: none
};

// On an emulated cluster the slowest rank of the recorded step, whose time is exact. Else rank 0's seconds
// times what the slowest rank took of rank 0's time, over all windows. `traffic`: null where the run recorded
// nothing; then, and where records lack ranks, rank 0's seconds.
SlowestStep SlowestStepOf(const StepOfRun& asked, const RecordedRun* traffic);

}  // namespace unipool
