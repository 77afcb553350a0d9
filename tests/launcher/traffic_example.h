// The folder traffic/ of a run, made by a test: exchanges at times that the test chooses, recorded by ranks
// whose clocks go wrong as the test wishes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/version.h"
#include "runtime/tensor_file.h"
#include "runtime/traffic_file.h"

namespace unipool {

struct ExampleCall {
  int64_t start = 0, wait_enter = 0, wait_leave = 0;  // true time, ns
};

struct ExampleExchange {
  std::string operation = "dispatch forward";
  int lane = 0, layer = 0, slot_time = 0, row_bytes = 8;
  std::vector<ExampleCall> calls;                   // by rank
  std::vector<std::vector<int64_t>> bytes;          // [from][to]; diagonal: own blocks
  std::vector<std::vector<int64_t>> arrivals = {};  // [from][to], true time; empty: nobody looked
  bool first_use = false;
};

// own clock = true time * (1 + drift) + offset
struct ExampleClock {
  std::string boot_id = "b0";
  double drift = 0;
  int64_t offset = 0;
  int64_t Own(int64_t ns) const { return ns + std::llround(drift * static_cast<double>(ns)) + offset; }
};

class ExampleRun {
 public:
  explicit ExampleRun(int world, const std::string& name = "example")
      : path_(::testing::TempDir() + "traffic_" + name + "_" + std::to_string(getpid())), clocks_(world) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_ + "/traffic");
    for (int rank = 0; rank < world; ++rank) nodes_.push_back(0);
  }
  ~ExampleRun() { std::filesystem::remove_all(path_); }
  ExampleRun(const ExampleRun&) = delete;

  int world() const { return static_cast<int>(clocks_.size()); }
  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/traffic/" + name; }

  // A step with its exchanges, from begin to end on all ranks, and what it is made of.
  void AddStep(int64_t step, int64_t begin, int64_t end, const std::vector<ExampleExchange>& exchanges) {
    steps_.push_back({step, begin, end, exchanges});
  }
  // The clock of `rank`'s host was compared with rank 0's at this true time, with this error.
  void Compare(int rank, int64_t ns, int64_t uncertainty, int64_t error = 0) {
    const int64_t own = clocks_[rank].Own(ns);
    comparisons_[rank].push_back({.own_ns = own,
                                  .offset_ns = clocks_[0].Own(ns) - own + error,
                                  .uncertainty_ns = uncertainty,
                                  .reference = 0,
                                  .num_probes = 100});
  }

  void Write() const {
    for (int rank = 0; rank < world(); ++rank) WriteRank(rank);
    nlohmann::json manifest{{"unipool_traffic", kTrafficFormat},
                            {"program_version", version_},
                            {"run_id", "run"},
                            {"record", "FULL"},
                            {"world", world()},
                            {"carrier", carrier_},
                            {"progress_thread", false},
                            {"clock", {{"kind", "monotonic"}}},
                            {"node_of_rank", nodes_},
                            {"host_cores_of_rank", host_cores_},
                            {"mesh", {{"stages", stages_}, {"data", world() / stages_}, {"pool", world()}}},
                            {"model", {{"microbatches", 4}}},
                            {"ended", true}};
    for (const ExampleClock& clock : clocks_) {
      manifest["host_of_rank"].push_back("host-" + clock.boot_id);
      manifest["boot_id_of_rank"].push_back(clock.boot_id);
    }
    WriteTextFile(File("manifest.json"), manifest.dump());
    if (!expert_rows_.is_null()) WriteWindow();
  }

  std::string path_, carrier_ = "MPI", version_ = ProgramVersion();
  bool on_device_ = false;  // the exchanges are of device memory, whose clock begins with the step
  std::vector<ExampleClock> clocks_;
  std::vector<int> nodes_, host_cores_;
  int stages_ = 1;
  // Of a step, by rank: with a core, and without one because others had it. Empty: not recorded.
  std::vector<double> cpu_share_, queued_share_;
  nlohmann::json expert_rows_;  // of a window of all steps; null: none is written

 private:
  struct Step {
    int64_t step, begin, end;
    std::vector<ExampleExchange> exchanges;
  };

  void WriteWindow() const {
    const int64_t first = steps_.front().step, last = steps_.back().step;
    const nlohmann::json window{{"first_step", first},
                                {"last_step", last},
                                {"steps", last - first + 1},
                                {"ranks", {{"step_ns", std::vector<int64_t>(world(), 1)}}},
                                {"expert_rows", expert_rows_}};
    WriteTextFile(File("window-" + std::to_string(first) + "-" + std::to_string(last) + ".json"),
                  window.dump());
  }

  static int64_t ShareOf(const std::vector<double>& shares, int rank, const Step& step) {
    return shares.empty() ? -1 : std::llround(shares[rank] * static_cast<double>(step.end - step.begin));
  }

  void WriteRank(int rank) const {
    const ExampleClock& clock = clocks_[rank];
    TrafficFileWriter writer(File(TrafficFileName(rank)), {.program_version = version_,
                                                           .run_id = "run",
                                                           .rank = rank,
                                                           .world = world(),
                                                           .host = "host-" + clock.boot_id,
                                                           .boot_id = clock.boot_id,
                                                           .clock = "monotonic",
                                                           .slots_per_time = 1});
    std::vector<int> members;
    for (int r = 0; r < world(); ++r) members.push_back(r);
    writer.AddCommunicator(0, {.name = "pool", .members = members, .on_device = false, .carrier = carrier_});
    const auto found = comparisons_.find(rank);
    if (found != comparisons_.end()) {
      for (const ClockRecord& record : found->second) writer.Add(record);
    }
    std::map<std::string, int> operations;
    int64_t sequence = 0;
    for (const Step& step : steps_) {
      for (const ExampleExchange& exchange : step.exchanges) {
        const auto [name, is_new] =
            operations.try_emplace(exchange.operation, static_cast<int>(operations.size()));
        if (is_new) writer.AddOperation(name->second, exchange.operation);
        AddExchange(writer, exchange, rank, step, name->second, sequence++);
      }
      writer.Add(StepRecord{.step = step.step,
                            .begin_ns = clock.Own(step.begin),
                            .end_ns = clock.Own(step.end),
                            .num_exchanges = static_cast<int64_t>(step.exchanges.size()),
                            .anchor_device_ns = on_device_ ? 100 : -1,
                            .anchor_host_ns = on_device_ ? clock.Own(step.begin) : -1,
                            .anchor_uncertainty_ns = on_device_ ? 5 : -1,
                            .cpu_ns = ShareOf(cpu_share_, rank, step),
                            .queued_ns = ShareOf(queued_share_, rank, step),
                            .pushed_off = cpu_share_.empty() ? -1 : 9});
    }
    ASSERT_EQ(writer.Flush(), "");
  }

  void AddExchange(TrafficFileWriter& writer, const ExampleExchange& exchange, int rank, const Step& step,
                   int operation, int64_t sequence) const {
    const ExampleClock& clock = clocks_[rank];
    const ExampleCall& call = exchange.calls[rank];
    ExchangeRecord record;
    record.head.flags = exchange.first_use ? ExchangeRecord::kFirstUse : 0;
    record.step = step.step;
    record.sequence = sequence;
    record.communicator = 0;
    record.operation = operation;
    record.lane = exchange.lane;
    record.layer = exchange.layer;
    record.slot_time = exchange.slot_time;
    record.slot_index = record.stage = record.microbatch = 0;
    record.start_ns = clock.Own(call.start);
    record.start_done_ns = record.start_ns + 1;
    record.wait_enter_ns = clock.Own(call.wait_enter);
    record.wait_leave_ns = clock.Own(call.wait_leave);
    if (on_device_) {
      const auto on_device = [&](int64_t ns) { return ns - step.begin + 100; };
      record.head.flags |= ExchangeRecord::kOnDevice;
      record.device_begin_ns = record.device_end_ns = on_device(call.start);
      record.device_blocked_begin_ns = on_device(call.wait_enter);
      record.device_blocked_end_ns = on_device(call.wait_leave);
      record.start_ns = record.start_done_ns = record.wait_enter_ns = record.wait_leave_ns =
          clock.Own(step.begin);  // when the host gave it to the device
    }
    record.row_bytes = exchange.row_bytes;
    std::vector<PeerBytes> peers;
    for (int p = 0; p < world(); ++p) {
      if (p == rank)
        record.bytes_self = exchange.bytes[p][p];
      else if (exchange.bytes[rank][p] + exchange.bytes[p][rank] > 0)
        peers.push_back(
            {.peer = p,
             .arrived_us = exchange.arrivals.empty()
                               ? -1
                               : static_cast<int32_t>((exchange.arrivals[p][rank] - call.start) / 1000),
             .bytes_to = exchange.bytes[rank][p],
             .bytes_from = exchange.bytes[p][rank]});
    }
    writer.Add(record, peers);
  }

  std::vector<Step> steps_;
  std::map<int, std::vector<ClockRecord>> comparisons_;
};

}  // namespace unipool
