#include "launcher/traffic_report/joined_traffic.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "runtime/errors.h"

namespace unipool {
namespace {

class Joiner {
 public:
  Joiner(const RecordedRun& folder, const ClockMap& clocks) : folder_(folder), clocks_(clocks) {
    const std::vector<int64_t> steps = folder.RecordedSteps();
    steps_.insert(steps.begin(), steps.end());
    for (const TrafficFile& file : folder.files) AddFile(file);
    AddSteps();
    for (const JoinedExchange& exchange : joined_.exchanges) Check(exchange);
    std::stable_sort(joined_.exchanges.begin(), joined_.exchanges.end(), [](const auto& a, const auto& b) {
      return std::tie(a.step, a.communicator, a.sequence) < std::tie(b.step, b.communicator, b.sequence);
    });
  }
  JoinedTraffic& joined() { return joined_; }

 private:
  int IndexOf(const CommunicatorName& name) {
    const auto [found, is_new] = communicator_index_.try_emplace(
        std::pair(name.name, name.members), static_cast<int>(joined_.communicators.size()));
    if (is_new) joined_.communicators.push_back(name);
    return found->second;
  }

  int IndexOf(const std::string& operation) {
    const auto [found, is_new] =
        operation_index_.try_emplace(operation, static_cast<int>(joined_.operations.size()));
    if (is_new) joined_.operations.push_back(operation);
    return found->second;
  }

  void AddFile(const TrafficFile& file) {
    const int rank = file.header.rank;
    std::vector<int> communicators, operations;
    for (const CommunicatorName& name : file.communicators) communicators.push_back(IndexOf(name));
    for (const std::string& name : file.operations) operations.push_back(IndexOf(name));
    for (const StepRecord& step : file.steps) {
      if (step.anchor_host_ns >= 0) anchors_[std::pair(rank, step.step)] = &step;
    }
    for (const RecordedExchange& recorded : file.exchanges) {
      const ExchangeRecord& record = recorded.record;
      if (!steps_.contains(record.step)) continue;
      if (record.communicator < 0 || record.communicator >= static_cast<int>(communicators.size()) ||
          record.operation < 0 || record.operation >= static_cast<int>(operations.size())) {
        throw UserError(
            Format("the records of rank %d name a communicator or operation that is not there", rank));
      }
      Add(rank, recorded, communicators[record.communicator], operations[record.operation]);
    }
  }

  void Add(int rank, const RecordedExchange& recorded, int communicator, int operation) {
    const ExchangeRecord& record = recorded.record;
    const std::vector<int>& members = joined_.communicators[communicator].members;
    const auto member = std::find(members.begin(), members.end(), rank);
    if (member == members.end())
      throw UserError(Format("rank %d recorded an exchange of ranks that it is none of", rank));
    const auto [found, is_new] =
        exchange_index_.try_emplace(std::pair(communicator, record.sequence), joined_.exchanges.size());
    if (is_new) {
      joined_.exchanges.push_back({.step = record.step,
                                   .sequence = record.sequence,
                                   .communicator = communicator,
                                   .operation = operation,
                                   .lane = record.lane,
                                   .slot_time = record.slot_time,
                                   .slot_index = record.slot_index,
                                   .parts = std::vector<ExchangePart>(members.size())});
    }
    JoinedExchange& exchange = joined_.exchanges[found->second];
    if (exchange.operation != operation || exchange.step != record.step) {
      throw UserError(
          Format("exchange %d of communicator '%s' is '%s' of step %d on rank %d and '%s' of step %d on "
                 "another: the files are of different starts, or damaged",
                 record.sequence, joined_.communicators[communicator].name, joined_.operations[operation],
                 record.step, rank, joined_.operations[exchange.operation], exchange.step));
    }
    ExchangePart part{.recorded = &recorded};
    if ((record.head.flags & ExchangeRecord::kOnDevice) != 0) {
      SetDeviceTimes(rank, record, part);
    } else if (clocks_.IsKnown(rank)) {
      part.start = clocks_.Common(rank, record.start_ns);
      part.start_done = clocks_.Common(rank, record.start_done_ns);
      part.wait_enter = clocks_.Common(rank, record.wait_enter_ns);
      part.wait_leave = clocks_.Common(rank, record.wait_leave_ns);
    }
    exchange.parts[member - members.begin()] = part;
  }

  // Those of the host say only when it gave the exchange to the device.
  void SetDeviceTimes(int rank, const ExchangeRecord& record, ExchangePart& part) const {
    const auto found = anchors_.find(std::pair(rank, record.step));
    if (record.device_blocked_end_ns < 0 || found == anchors_.end() || !clocks_.IsKnown(rank)) return;
    const StepRecord& anchor = *found->second;
    const auto common = [&](int64_t device_ns) {
      return clocks_.Common(rank, anchor.anchor_host_ns + device_ns - anchor.anchor_device_ns);
    };
    part.start = part.start_done = common(record.device_begin_ns);
    part.wait_enter = common(record.device_blocked_begin_ns);
    part.wait_leave = common(record.device_blocked_end_ns);
    part.uncertainty = std::max<int64_t>(0, anchor.anchor_uncertainty_ns);
  }

  void AddSteps() {
    for (const int64_t step : steps_) {
      const auto world = static_cast<size_t>(folder_.manifest.world);
      joined_.steps.push_back(
          {.step = step, .begin = std::vector<int64_t>(world, -1), .end = std::vector<int64_t>(world, -1)});
    }
    for (const TrafficFile& file : folder_.files) {
      for (const StepRecord& step : file.steps) {
        const auto found = steps_.find(step.step);
        if (found == steps_.end() || !clocks_.IsKnown(file.header.rank)) continue;
        JoinedStep& joined = joined_.steps[std::distance(steps_.begin(), found)];
        joined.begin[file.header.rank] = clocks_.Common(file.header.rank, step.begin_ns);
        joined.end[file.header.rank] = clocks_.Common(file.header.rank, step.end_ns);
      }
    }
  }

  // What a rank sends is what the other received.
  void Check(const JoinedExchange& exchange) {
    const size_t size = exchange.parts.size();
    for (const ExchangePart& part : exchange.parts) {
      if (part.recorded) continue;
      ++joined_.incomplete;
      return;
    }
    balance_.resize(std::max(balance_.size(), size * size), 0);
    for (size_t p = 0; p < size; ++p) {
      for (const PeerBytes& peer : exchange.parts[p].recorded->peers) {
        if (peer.peer < 0 || peer.peer >= static_cast<int>(size))
          throw UserError(
              Format("exchange %d names a rank that is not of its communicator", exchange.sequence));
        balance_[p * size + peer.peer] += peer.bytes_to;
        balance_[peer.peer * size + p] -= peer.bytes_from;
      }
    }
    bool is_level = true;
    for (size_t p = 0; p < size; ++p) {
      for (const PeerBytes& peer : exchange.parts[p].recorded->peers) {
        for (int64_t* cell : {&balance_[p * size + peer.peer], &balance_[peer.peer * size + p]})
          is_level = std::exchange(*cell, 0) == 0 && is_level;
      }
    }
    if (!is_level) {
      throw UserError(
          Format("exchange %d of communicator '%s', step %d: what one rank sent is not what another "
                 "received: the files are of different starts, or damaged",
                 exchange.sequence, joined_.communicators[exchange.communicator].name, exchange.step));
    }
  }

  const RecordedRun& folder_;
  const ClockMap& clocks_;
  std::set<int64_t> steps_;
  std::map<std::pair<std::string, std::vector<int>>, int> communicator_index_;
  std::map<std::string, int> operation_index_;
  std::map<std::pair<int, int64_t>, size_t> exchange_index_;
  // By rank and step: where the device was seen.
  std::map<std::pair<int, int64_t>, const StepRecord*> anchors_;
  std::vector<int64_t> balance_;  // [sender, receiver], zeros between calls
  JoinedTraffic joined_;
};

}  // namespace

JoinedTraffic JoinTraffic(const RecordedRun& folder, const ClockMap& clocks) {
  return std::move(Joiner(folder, clocks).joined());
}

std::vector<int> StageOfRank(const JoinedTraffic& traffic, int world) {
  std::vector<int> stages(world, -1);
  for (const JoinedExchange& exchange : traffic.exchanges) {
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (part.recorded && part.recorded->record.stage >= 0)
        stages[traffic.WorldRank(exchange, static_cast<int>(p))] = part.recorded->record.stage;
    }
  }
  return stages;
}

}  // namespace unipool
