// Which steps of a run were done with other settings than its config.txtpb tells. That file has the settings
// of the newest start that trained; a run that goes on with others keeps the steps before.
#pragma once

#include <cstdint>
#include <string>

#include "configs/config.pb.h"
#include "launcher/reports/run_record.h"

namespace unipool {

struct EarlierSettings {
  int64_t step = 0;   // the last one known to be done with others; 0: none is known
  std::string words;  // "had other settings at step 12: train.lr 0.003 (now 0.001)"; "": none is known
};

// Looks where settings leave a trace: `lr` and `tokens` of the metrics, and config.txtpb of the checkpoints
// that are left. A run whose rates are those of its settings at every step may be a lengthened one: its
// schedule then counts as one. What changes neither a loss nor the speed is left out (folder, records, when
// it saves). A run whose changes left no trace passes.
EarlierSettings FindEarlierSettings(const std::string& run_dir, const Config& now,
                                    const MetricSeries& series);

}  // namespace unipool
