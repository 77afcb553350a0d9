// Sums over the exchanges of one rank: of a step, and of the steps of a window. Adding allocates nothing.
// Words: TRAFFIC.md, "Words".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/exchange_label.h"
#include "runtime/traffic_split.h"

namespace unipool {

// One exchange, as it is added.
struct TalliedExchange {
  int64_t bytes_intra = 0, bytes_inter = 0;  // to other ranks, of the own node and of others
  int64_t bytes_self = 0, bytes_received = 0;
  int64_t start_ns = 0;  // in Start
  int64_t blocked_ns = 0;
  int64_t idle_ns = 0, idle_receiver_ns = 0;
  int64_t wire_ns = -1;            // alone; -1: not known
  int sender = -1, receiver = -1;  // world ranks that the idle times are owed to
  bool is_split = false;           // idle times are known
  bool has_times = true;           // false: no time counts (first use, device memory)
};

struct TrafficCell {
  int64_t count = 0;
  int64_t bytes_intra = 0, bytes_inter = 0, bytes_self = 0;
  int64_t blocked_ns = 0, idle_ns = 0, idle_receiver_ns = 0, exposed_ns = 0, hidden_ns = 0;
};

// TRAFFIC.md says what the members are.
struct TrafficTotals {
  TrafficCell sum;
  int64_t start_ns = 0, received_bytes = 0, split_blocked_ns = 0;
  int64_t num_timed = 0;  // exchanges whose times count
  int64_t num_split = 0;  // of these, whose idle times are known
  int64_t num_wires = 0;  // of these, whose time alone is known
  int64_t dropped = 0, first_use = 0;
  int64_t sampled_steps = 0;  // with idle times that were found out afterwards (traffic_join.h)
  int64_t wire_bytes() const { return sum.bytes_intra + sum.bytes_inter; }
  bool is_split() const { return num_split == num_timed; }
  bool has_wires() const { return num_wires == num_timed && num_timed > 0; }
};

class TrafficTally {
 public:
  static constexpr int kMostOperations = 48;  // what comes after these is added to the last

  explicit TrafficTally(int world);
  // Before the first exchange is added: layers of the model.
  void SetLayers(int layers);

  // One operation of one communicator. `operation` is a static string.
  struct Operation {
    int communicator = -1;
    const char* name = "";
    std::vector<TrafficCell> cells;  // lane, layer: CellIndex
    std::vector<int64_t> bytes_to;   // [world]
  };
  int IndexOf(int communicator, const char* operation);
  std::span<const Operation> operations() const { return std::span(operations_).first(num_operations_); }
  int num_layers() const { return num_layers_; }
  int CellIndex(int lane, int layer) const { return (lane + 1) * (num_layers_ + 1) + layer + 1; }

  void AddBytesTo(int operation, int world_rank, int64_t bytes) {
    operations_[operation].bytes_to[world_rank] += bytes;
  }
  void Add(int operation, int lane, int layer, const TalliedExchange& exchange);
  // The idle times of an exchange that was added before without them. Of the window alone.
  void AddSplit(int operation, int lane, int layer, const WaitSplit& split);
  // The window has idle times of one step more, whose exchanges had none when they were added.
  void AddSampledStep() { ++window_.sampled_steps; }
  void AddDropped() { ++step_.dropped, ++window_.dropped; }
  void AddFirstUse() { ++step_.first_use, ++window_.first_use; }

  // Since the last call of ClearStep, and of ClearWindow.
  const TrafficTotals& step() const { return step_; }
  const TrafficTotals& window() const { return window_; }
  // [world]: idle and idle (receiver) that is owed to each rank.
  std::span<const int64_t> step_owed() const { return step_owed_; }
  std::span<const int64_t> window_owed() const { return window_owed_; }
  void ClearStep();
  void ClearWindow();  // also the cells and bytes of all operations

 private:
  TrafficCell& CellOf(int operation, int lane, int layer);
  std::vector<Operation> operations_;
  int num_operations_ = 0, num_layers_ = 0;
  TrafficTotals step_, window_;
  std::vector<int64_t> step_owed_, window_owed_;
};

}  // namespace unipool
