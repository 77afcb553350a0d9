// One run per folder. Two at once would cut each other's metrics and remove each other's checkpoints.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace unipool {

struct RunLockOptions {
  // How long to try again while another holds the lock. A lock may outlive a dead machine for a while (NFS).
  std::chrono::milliseconds wait{0};
  // How long a heartbeat has to stand still to be that of a dead run. Only where files cannot be locked.
  std::chrono::milliseconds heartbeat_patience{30'000};
  std::function<void(const std::string&)> say;  // a line for people while it waits
  std::function<bool()> give_up;                // asked while it waits
};

// Holds RUN_DIR/lock until it is destroyed or its process ends, however it ends. Creates the folder. The file
// says who holds it: {"host", "pid", "started", "job_id"}. It is emptied when the lock is destroyed.
//
// The lock is flock's. Some file systems cannot lock files (Lustre without the option). There the file's
// words count: a living process of this host holds the lock, and a process of another host holds it as long
// as RUN_DIR/heartbeat moves.
class RunLock {
 public:
  // Throws UserError when another process holds it at the end of the wait, naming host, process and job; when
  // the folder cannot be made or written; and, with kStoppedExitCode, when give_up said so.
  explicit RunLock(const std::string& run_dir, const RunLockOptions& options = {});
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
};

// The wait of a start that Slurm has requeued (SLURM_RESTART_COUNT > 0), whose former start may have died
// with its machine; 0 of all others.
std::chrono::milliseconds LockWaitOfThisStart();

}  // namespace unipool
