#include "launcher/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "runtime/errors.h"

namespace unipool {

RunLock::RunLock(const std::string& run_dir) {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  const std::string path = run_dir + "/lock";
  fd_ = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (fd_ < 0) {
    throw UserError("run_dir: cannot write " + path + ": " + std::strerror(errno) +
                    "; choose a folder you may write");
  }
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const bool is_held = errno == EWOULDBLOCK;
  close(fd_);
  // A file system without locks does not stop a run.
  fd_ = -1;
  if (is_held)
    throw UserError("run_dir: another run is using " + run_dir +
                    "; wait for its end or choose another run_dir");
}

RunLock::~RunLock() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace unipool
