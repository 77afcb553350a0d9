// Which expert gets how many rows in which layer, from the windows of a run: who is hot, and where it lives.
// Pure: windows in, numbers and sentences out.
#pragma once

#include <string>
#include <vector>

#include "launcher/traffic_report/recorded_run.h"
#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {

// Rows are choices with a positive score, each counted once, in the forward; a step's, over all ranks.
struct ExpertRows {
  int64_t first = 0, last = 0;          // steps of the windows
  double num_steps = 0;                 // 0: not recorded
  std::vector<int> layers;              // of the model
  Matrix rows;                          // [expert][index in layers]
  std::vector<double> sums;             // [index in layers] of all experts
  std::vector<double> choosable;        // [index in layers] experts that the layer may choose
  std::vector<std::vector<int>> ranks;  // of the pool, with the expert: its owner, then copies
  int pool = 1;                         // ranks of a pool
  bool is_whole = true;                 // no window left an expert with rows out
  int num_experts() const { return static_cast<int>(rows.size()); }
  double Sum() const;                        // of all experts and layers
  double RowsOf(int expert) const;           // in all layers
  double Share(int expert) const;            // of the sum
  double Ratio(int expert) const;            // RowsOf / mean of all experts
  double Ratio(int expert, size_t i) const;  // in layer layers[i]: rows / mean of those that it may choose
  size_t MostIn(int expert) const;           // index of the layer in which it gets most rows
  std::vector<int> Ordered() const;          // experts by rows, most first
  int NumUnused() const;                     // without any rows
  bool LivesOn(int expert, int world_rank) const;
  // Of the pool: "5", "5, copies on 1 3".
  std::string RanksText(int expert) const;
};

// Of windows that hold some of the steps `first` to `last`; all, if none does. layer >= 0: this one alone.
ExpertRows ExpertRowsOf(const RecordedRun& run, int64_t first, int64_t last, int layer = -1);

// "; expert 3 alone gets 41 % of all rows, 3.3 x an expert's mean, most in layer 1 (6.1 x) (steps 0 to 9)":
// the experts of a rank that make it hot; "" where none of them is clearly above the mean.
std::string HotExpertsText(const ExpertRows& rows, int world_rank);

}  // namespace unipool
