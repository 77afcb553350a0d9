// One run per folder: two at once would cut each other's metrics and checkpoints.
#pragma once

#include <string>

namespace unipool {

// Holds RUN_DIR/lock until it is destroyed or the process ends, however it ends. Creates the folder. Throws
// UserError when another process holds it, or the folder cannot be written.
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
