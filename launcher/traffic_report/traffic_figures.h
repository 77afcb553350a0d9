// The numbers that a report of traffic shows, whether they come from the windows of a run or from records of
// every exchange. Times are nanoseconds a step, bytes are those of a step; NaN is "not known".
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "launcher/traffic_report/exchange_waits.h"
#include "launcher/traffic_report/joined_traffic.h"
#include "runtime/thread_cpu.h"

namespace unipool {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
inline bool IsKnown(double value) {
  return !std::isnan(value);
}

// What is shown: all, or one layer, lane or operation.
struct ExchangeFilter {
  int layer = -1, lane = -1;  // -1: all
  std::string operation;      // "": all
  bool IsAll() const { return layer < 0 && lane < 0 && operation.empty(); }
  bool Takes(const std::string& name, int of_lane, int of_layer) const {
    return (operation.empty() || operation == name) && (lane < 0 || lane == of_lane) &&
           (layer < 0 || layer == of_layer);
  }
};

// blocked = idle + idle_receiver + exposed; stalled is a part of exposed.
struct WaitFigures {
  double blocked = 0, idle = 0, idle_receiver = 0, exposed = 0, stalled = 0, hidden = 0;
  double Idle() const { return idle + idle_receiver; }
  void Add(const WaitFigures& other);
  WaitFigures Times(double factor) const;
};

struct VolumeFigures {
  double intra = 0, inter = 0, self = 0, received = 0, exchanges = 0;  // intra, inter, self: sent
  double Wire() const { return intra + inter; }
  void Add(const VolumeFigures& other);
  VolumeFigures Times(double factor) const;
};

struct RankFigures {
  double step = 0;
  WaitFigures waits;
  VolumeFigures volume;
  double caused = kUnknown;      // idle times of others that are owed to this rank
  double rows = kUnknown;        // received for its experts, those of itself too
  double other_blocked = 0;      // in exchanges that the filter leaves out
  double off_core = kUnknown;    // without a core: others had it, or the rank was stopped
  double queued = kUnknown;      // of it: others had it, while the rank could have run
  double pushed_off = kUnknown;  // times that it lost its core to others
  double Compute() const { return step - waits.blocked - other_blocked; }
};

// Lane and layer are -1 where there is none. Waits: mean of ranks. Volume: sum of ranks.
using CellKey = std::tuple<std::string, std::string, int, int>;  // communicator, operation, lane, layer
struct CellFigures {
  WaitFigures waits;
  VolumeFigures volume;
  int worst_rank = -1;         // that was blocked longest
  double worst_blocked = 0;    // its time
  std::map<int, double> owed;  // idle time, mean of ranks, by the rank that it is owed to
};

// Of the ranks of a stage in a time of the slot schedule: mean of ranks.
struct SlotFigures {
  double idle = 0, exposed = 0, imbalance = kUnknown;
};

struct StepFigures {
  int64_t first = 0, last = 0;  // the step, or the steps of a window
  double step = 0;              // its time on the slowest rank
  WaitFigures waits;            // mean of ranks
  // Over (microbatch, layer, lane) of the most rows that a rank received / the mean of ranks.
  double imbalance = kUnknown;  // mean
  double imbalance_p95 = kUnknown, imbalance_max = kUnknown;
};

using Matrix = std::vector<std::vector<double>>;

struct TrafficFigures {
  bool from_records = false;  // else from windows
  bool is_split = false;      // idle and exposed are known
  bool hidden_is_estimate = false;
  bool by_node = false;            // of the matrices
  std::vector<StepFigures> steps;  // rising
  double num_steps = 0;
  std::vector<RankFigures> ranks;
  std::map<CellKey, CellFigures> cells;
  std::map<std::string, Matrix> matrices;            // by operation, [sender][receiver]; "": all of them
  Matrix owed;                                       // [victim][cause]
  std::map<std::pair<int, int>, SlotFigures> slots;  // by (time, stage)
  std::map<int, std::vector<double>> rows;           // by layer: rows received by each rank
  double idle_uncertainty = 0;                       // of idle, mean of ranks: clocks
  double dropped = 0, first_use = 0;
  WaitFigures MeanWaits() const;
  double MeanStep() const;  // mean of the steps' times
  double MeanCompute() const;
  double RowsLeavingNode() const;  // share of the rows for experts; unknown where there are none
  // Sums of ThreadCpu over num_steps, as that of one step. REQUIRES: `rank` has its other times.
  static void SetCpu(RankFigures& rank, const RecordedManifest& manifest, const ThreadCpu& sum,
                     double num_steps);
};

TrafficFigures FiguresOfRecords(const RecordedRun& folder, const JoinedTraffic& traffic,
                                const ExchangeFilter& filter);
// The sums of a window as they are. With a filter of layer or lane the matrices are left out.
TrafficFigures FiguresOfWindows(const RecordedRun& folder, const ExchangeFilter& filter);

// Matrices and ranks put together by node; a node's times are the mean of its ranks.
TrafficFigures ByNode(const TrafficFigures& figures, const std::vector<int>& node_of_rank);

// The value below which a share of the numbers lies; unknown of none.
double Quantile(std::vector<double> values, double share);

}  // namespace unipool
