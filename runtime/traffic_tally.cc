#include "runtime/traffic_tally.h"

#include <algorithm>
#include <cstring>

namespace unipool {

TrafficTally::TrafficTally(int world) : operations_(kMostOperations), step_owed_(world), window_owed_(world) {
  for (Operation& operation : operations_) operation.bytes_to.resize(world);
  SetLayers(0);
}

void TrafficTally::SetLayers(int layers) {
  num_layers_ = layers;
  for (Operation& operation : operations_) operation.cells.resize(3 * (layers + 1));
}

int TrafficTally::IndexOf(int communicator, const char* operation) {
  const auto index_of = [&](auto is_it) {
    int i = 0;
    while (i < num_operations_ &&
           (operations_[i].communicator != communicator || !is_it(operations_[i].name)))
      ++i;
    return i;
  };
  int known = index_of([&](const char* name) { return name == operation; });  // nearly always found
  if (known == num_operations_)
    known = index_of([&](const char* name) { return std::strcmp(name, operation) == 0; });
  if (known < num_operations_) return known;
  if (num_operations_ == kMostOperations) return kMostOperations - 1;
  Operation& added = operations_[num_operations_];
  added.communicator = communicator;
  added.name = num_operations_ + 1 == kMostOperations ? "other operations" : operation;
  return num_operations_++;
}

void TrafficTally::Add(int operation, int lane, int layer, const TalliedExchange& x) {
  TrafficCell cell{
      .count = 1, .bytes_intra = x.bytes_intra, .bytes_inter = x.bytes_inter, .bytes_self = x.bytes_self};
  if (x.has_times) {
    cell.blocked_ns = x.blocked_ns;
    if (x.is_split) {
      cell.idle_ns = x.idle_ns;
      cell.idle_receiver_ns = x.idle_receiver_ns;
      cell.exposed_ns = x.blocked_ns - x.idle_ns - x.idle_receiver_ns;
      if (x.wire_ns >= 0) cell.hidden_ns = std::max<int64_t>(0, x.wire_ns - cell.exposed_ns);
    }
  }
  const auto add = [&](TrafficCell& to) {
    to.count += cell.count;
    to.bytes_intra += cell.bytes_intra;
    to.bytes_inter += cell.bytes_inter;
    to.bytes_self += cell.bytes_self;
    to.blocked_ns += cell.blocked_ns;
    to.idle_ns += cell.idle_ns;
    to.idle_receiver_ns += cell.idle_receiver_ns;
    to.exposed_ns += cell.exposed_ns;
    to.hidden_ns += cell.hidden_ns;
  };
  add(CellOf(operation, lane, layer));
  for (TrafficTotals* totals : {&step_, &window_}) {
    add(totals->sum);
    totals->received_bytes += x.bytes_received;
    if (!x.has_times) continue;
    totals->start_ns += x.start_ns;
    totals->num_timed += 1;
    if (!x.is_split) continue;
    totals->num_split += 1;
    totals->num_wires += x.wire_ns >= 0;
    totals->split_blocked_ns += x.blocked_ns;
  }
  if (!x.has_times || !x.is_split) return;
  for (std::vector<int64_t>* owed : {&step_owed_, &window_owed_}) {
    if (x.sender >= 0) (*owed)[x.sender] += x.idle_ns;
    if (x.receiver >= 0) (*owed)[x.receiver] += x.idle_receiver_ns;
  }
}

void TrafficTally::AddSplit(int operation, int lane, int layer, const WaitSplit& split) {
  for (TrafficCell* cell : {&CellOf(operation, lane, layer), &window_.sum}) {
    cell->idle_ns += split.idle_ns;
    cell->idle_receiver_ns += split.idle_receiver_ns;
    cell->exposed_ns += split.exposed_ns;
  }
  window_.split_blocked_ns += split.idle_ns + split.idle_receiver_ns + split.exposed_ns;
  if (split.sender >= 0) window_owed_[split.sender] += split.idle_ns;
  if (split.receiver >= 0) window_owed_[split.receiver] += split.idle_receiver_ns;
}

TrafficCell& TrafficTally::CellOf(int operation, int lane, int layer) {
  layer = layer < num_layers_ ? std::max(layer, -1) : -1;
  return operations_[operation].cells[CellIndex(std::clamp(lane, -1, 1), layer)];
}

void TrafficTally::ClearStep() {
  step_ = {};
  std::fill(step_owed_.begin(), step_owed_.end(), 0);
}

void TrafficTally::ClearWindow() {
  window_ = {};
  std::fill(window_owed_.begin(), window_owed_.end(), 0);
  for (Operation& operation : operations_) {
    std::fill(operation.cells.begin(), operation.cells.end(), TrafficCell{});
    std::fill(operation.bytes_to.begin(), operation.bytes_to.end(), 0);
  }
}

}  // namespace unipool
