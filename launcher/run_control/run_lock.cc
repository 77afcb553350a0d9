#include "launcher/run_control/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "launcher/run_control/heartbeat.h"
#include "launcher/run_control/run_holder.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kRequeueWait{120'000};
constexpr milliseconds kRetryEvery{200};
constexpr milliseconds kSettle{300};  // between writing who holds an unlockable file and looking who does

// Of a living process; 0 when there is none of this number, or a dead one that waits for its parent.
int64_t StartOf(int64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  const size_t end = text.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream fields(text.substr(end + 1));
  std::string field;
  for (int i = 0; i < 20 && fields >> field; ++i) {
    if (i == 0 && (field == "Z" || field == "X")) return 0;
  }
  return std::atoll(field.c_str());
}

RunHolder Me() {
  const char* job = std::getenv("SLURM_JOB_ID");
  return {.host = HostName(), .job_id = job ? job : "", .pid = getpid(), .started = StartOf(getpid())};
}

// " (host n0, process 12)"
std::string InBrackets(const std::optional<RunHolder>& holder) {
  return holder ? " (" + Describe(*holder) + ")" : "";
}

int OpenLock(const std::string& run_dir) {
  const std::string path = run_dir + "/lock";
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  if (error && !std::filesystem::is_directory(run_dir)) {
    throw UserError("run_dir: cannot write " + path + ": " + error.message() +
                    "; choose a folder you may write");
  }
  int fd = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NONBLOCK, 0666);
  // Another user's file can be locked all the same.
  if (fd < 0 && errno == EACCES && access(run_dir.c_str(), W_OK) == 0)
    fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) return fd;
  throw UserError("run_dir: cannot write " + path + ": " + std::strerror(errno) +
                  "; choose a folder you may write");
}

// One start's way to the lock of a folder.
class Attempt {
 public:
  Attempt(const std::string& run_dir, int fd, const RunLockOptions& options)
      : run_dir_(run_dir), fd_(fd), options_(options), deadline_(Clock::now() + options.wait) {}

  void Run() {
    for (;;) {
      if (flock(fd_, LOCK_EX | LOCK_NB) == 0) {
        WriteHolder(fd_, Me());  // what cannot be written matters little where flock holds
        return;
      }
      if (errno != EWOULDBLOCK && errno != EINTR) return RunWithoutLocks(errno);
      WaitOrRefuse();
    }
  }

 private:
  void RunWithoutLocks(int error) {
    Say("note: " + run_dir_ + "/lock: its file system cannot lock files (" + std::strerror(error) +
        "); a run on another host is told by its heartbeat");
    while (HeldByWords()) WaitOrRefuse();
    const RunHolder me = Me();
    if (!WriteHolder(fd_, me))
      throw UserError("run_dir: cannot write " + run_dir_ + "/lock: " + std::strerror(errno));
    std::this_thread::sleep_for(kSettle);
    if (ReadHolder(fd_) != me) Refuse();  // another start has come between
  }

  bool HeldByWords() {
    const std::optional<RunHolder> holder = ReadHolder(fd_);
    if (!holder) return false;
    if (holder->host == HostName())
      return holder->pid != getpid() && StartOf(holder->pid) == holder->started && holder->started != 0;
    Say("waiting up to " + Seconds(options_.heartbeat_patience) + " to see whether the run" +
        InBrackets(holder) + " lives");
    const std::string before = HeartbeatText(run_dir_);
    for (const auto begin = Clock::now(); Clock::now() - begin < options_.heartbeat_patience;) {
      Sleep();
      if (HeartbeatText(run_dir_) != before) return true;
      if (ReadHolder(fd_) != holder) return HeldByWords();
    }
    return false;
  }

  void WaitOrRefuse() {
    if (Clock::now() >= deadline_) Refuse();
    if (!has_told_) {
      Say("waiting up to " + Seconds(options_.wait) + " for the lock of " + run_dir_ +
          ", which another run holds" + InBrackets(ReadHolder(fd_)));
    }
    has_told_ = true;
    Sleep();
  }

  [[noreturn]] void Refuse() const {
    std::string waited;
    if (options_.wait.count() > 0) waited = ", still after " + Seconds(options_.wait);
    throw UserError("run_dir: another run is using " + run_dir_ + InBrackets(ReadHolder(fd_)) + waited +
                    "; wait for its end or choose another run_dir");
  }

  void Sleep() const {
    if (options_.give_up && options_.give_up()) {
      throw UserError("stopped on request while waiting for the lock of " + run_dir_, kStoppedExitCode);
    }
    std::this_thread::sleep_for(kRetryEvery);
  }
  void Say(const std::string& text) const {
    if (options_.say) options_.say(text);
  }
  static std::string Seconds(milliseconds time) {
    return Format("%.3g s", std::chrono::duration<double>(time).count());
  }

  const std::string& run_dir_;
  const int fd_;
  const RunLockOptions& options_;
  const Clock::time_point deadline_;
  bool has_told_ = false;
};

}  // namespace

RunLock::RunLock(const std::string& run_dir, const RunLockOptions& options) : fd_(OpenLock(run_dir)) {
  try {
    Attempt(run_dir, fd_, options).Run();
  } catch (...) {
    close(fd_);
    throw;
  }
}

RunLock::~RunLock() {
  if (ftruncate(fd_, 0) != 0) {  // then it tells of a process that has ended
  }
  close(fd_);
}

std::chrono::milliseconds LockWaitOfThisStart() {
  const char* count = std::getenv("SLURM_RESTART_COUNT");
  return count && std::atoi(count) > 0 ? kRequeueWait : milliseconds(0);
}

}  // namespace unipool
