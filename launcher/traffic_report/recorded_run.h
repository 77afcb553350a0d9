// What lies in the folder traffic/ of a run (runtime/TRAFFIC.md), as it is: nothing is corrected or joined.
// A run that goes on, and one that was killed, are read like one that has ended.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/traffic_file.h"

namespace unipool {

// A ClockRecord of a rank, as manifest.json has it.
struct ComparedClocks {
  int rank = 0, reference = 0;
  int64_t own_ns = 0, offset_ns = 0, uncertainty_ns = 0, num_probes = 0;
  bool operator==(const ComparedClocks&) const = default;
};

struct RecordedManifest {
  std::string program_version, run_id, command, config_digest, record, carrier, emulate, clock;
  std::string balance;  // moe.balance; "": not told
  std::string problem;  // why records end before the run; "": they do not
  double started = 0;   // seconds since 1970
  int world = 0;
  std::vector<std::string> host_of_rank, boot_id_of_rank;  // by rank; "" where not told
  std::vector<int> node_of_rank;
  std::vector<int> host_cores_of_rank;  // that the ranks of its host may use; 0: not known
  bool moves_while_computing = false, device = false, ended = false;
  int replicas = 1, stages = 1, data = 1, pool = 1;
  int layers = 0, experts = 0, top_k = 0, microbatches = 0, slots_per_time = 0;
  int64_t row_bytes = 0, tokens_per_microbatch = 0, dropped = 0;
  std::vector<ComparedClocks> comparisons;
};

// Whether all ranks share the memory of one host, so that nothing that they wait for is a wire.
bool HasNoWire(const RecordedManifest& manifest);

// Sums of one rank over the steps of a window. -1: not known.
struct RankSums {
  int64_t step_ns = -1, blocked_ns = -1, start_ns = -1, idle_ns = -1, idle_receiver_ns = -1, exposed_ns = -1;
  int64_t hidden_ns = -1, wire_bytes = 0, wire_bytes_inter = 0, self_bytes = 0, received_bytes = 0;
  int64_t exchanges = 0, dropped = 0, first_use = 0, split_blocked_ns = -1;
  int64_t cpu_ns = -1, queued_ns = -1, pushed_off = -1;  // older windows have none
};

// Each list has one entry a rank, or is [sum, largest, rank of the largest].
struct WindowCell {
  std::string communicator, operation;
  int lane = -1, layer = -1;
  bool by_rank = true;
  std::vector<int64_t> count, bytes_intra, bytes_inter, bytes_self;
  std::vector<int64_t> blocked_ns, idle_ns, idle_receiver_ns, exposed_ns, hidden_ns;
};

struct WindowMatrix {
  std::string communicator, operation;
  bool by_rank = true;                      // else by node
  std::vector<std::vector<int64_t>> cells;  // bytes[sender][receiver], or ns[victim][cause]
};

// Rows that experts got in a layer.
struct WindowExpertRows {
  int layer = 0;
  int64_t choosable = 0;                      // experts that the layer may choose
  int64_t rows = 0;                           // of all experts
  std::vector<std::pair<int, int64_t>> most;  // expert and its rows, the largest first; perhaps not all
};

struct RecordedWindow {
  int64_t first_step = 0, last_step = 0, steps = 0, split_steps = 0;
  std::vector<RankSums> ranks;
  std::vector<WindowCell> cells;
  std::vector<WindowMatrix> matrices;
  WindowMatrix idle_matrix;
  double imbalance_mean = -1, imbalance_p95 = -1;
  std::vector<WindowExpertRows> expert_rows;  // by layer; older windows have none
  std::vector<int> expert_owner;              // by expert: its rank in the pool, at the window's end
  std::vector<std::pair<int, int>> shadows;   // expert, another rank of the pool with a copy
};

struct RecordedRun {
  std::string run_dir;
  RecordedManifest manifest;
  std::vector<RecordedWindow> windows;  // by first step
  std::vector<TrafficFile> files;       // of the ranks that wrote one, by rank
  std::vector<std::string> notes;       // sentences: what is torn, left out or not there
  // Steps whose exchanges are recorded by all ranks of the world, rising.
  std::vector<int64_t> RecordedSteps() const;
};

// Steps to be read; both ends belong to it.
struct StepRange {
  int64_t first = 0, last = INT64_MAX;
  bool Contains(int64_t step) const { return first <= step && step <= last; }
};

// Exchanges of other steps are left out. `most_bytes`: of rank files together; beyond it only the last steps
// that fit are kept, and a note says so. Throws UserError: no such folder, nothing recorded (with the setting
// that records), files of another format (with both versions), files that are no such files.
RecordedRun ReadRecordedRun(const std::string& run_dir, const StepRange& steps,
                            int64_t most_bytes = int64_t{2} << 30);

}  // namespace unipool
