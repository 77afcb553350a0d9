// Who trains in a folder, seen from outside of the run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace unipool {

struct RunHolder {
  std::string host, job_id;  // job_id: "" without Slurm
  int64_t pid = 0;           // of rank 0; 0: not told
};
// "host n0, process 12, job 7"
std::string Describe(const RunHolder& holder);

// The run that holds RUN_DIR/lock; nothing when none does. Where files cannot be locked, whoever the file
// names and whose heartbeat is younger than a minute. Takes no lock of its own for longer than a moment,
// and creates nothing.
std::optional<RunHolder> HolderOf(const std::string& run_dir);

// What RUN_DIR/heartbeat says.
struct HeartbeatView {
  int64_t step = 0;
  double time = 0, tokens_per_second = 0;  // time: seconds since 1970
};
std::optional<HeartbeatView> ReadHeartbeat(const std::string& run_dir);

}  // namespace unipool
