// Who trains in a folder, seen from outside of the run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace unipool {

struct RunHolder {
  std::string host, job_id;  // job_id: "" without Slurm
  int64_t pid = 0;           // of rank 0; 0: not told
  int64_t started = 0;       // ticks since the host's boot, as in /proc/PID/stat
  bool operator==(const RunHolder&) const = default;
};
// "host n0, process 12, job 7"
std::string Describe(const RunHolder& holder);

// The words of an open RUN_DIR/lock; nothing where it is empty or says something else.
std::optional<RunHolder> ReadHolder(int lock);
// Whether they could be written.
bool WriteHolder(int lock, const RunHolder& holder);

// The run that holds RUN_DIR/lock; nothing when none does. Where files cannot be locked, whoever the file
// names and whose heartbeat is younger than a minute. Takes no lock of its own for longer than a moment,
// and creates nothing.
std::optional<RunHolder> HolderOf(const std::string& run_dir);

}  // namespace unipool
