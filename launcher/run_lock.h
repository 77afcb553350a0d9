// One run per folder. Two at once would cut each other's metrics and remove each other's checkpoints.
#pragma once

#include <string>

namespace unipool {

// Holds RUN_DIR/lock until it is destroyed or its process ends, however it ends. Creates the folder. Throws
// UserError when another run holds the lock, or the folder cannot be written. A file system without locks
// does not stop a run.
class RunLock {
 public:
  explicit RunLock(const std::string& run_dir);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace unipool
