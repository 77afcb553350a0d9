#include "launcher/tokens/writer_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
WriterLock::WriterLock(const std::string& path) : path_(path + ".lock") {
  for (;;) {
    file_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0666);
    if (file_ < 0) {
      throw UserError(Format("%s: cannot be written: %s", path_.c_str(), std::strerror(errno)));
    }
    if (flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      close(file_);
      throw UserError(
          Format("%s: another process is writing it (it holds %s); wait for its end or choose "
                 "another name",
                 path.c_str(), path_.c_str()));
    }
    if (StillNames(path_, file_)) return;  // who held it before may have removed it
    close(file_);
  }
}

WriterLock::~WriterLock() {
  unlink(path_.c_str());  // before the lock is given up, so that it is nobody else's
  close(file_);
}

}  // namespace unipool
