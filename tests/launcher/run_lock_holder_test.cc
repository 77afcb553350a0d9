// Who holds a run's lock, where files can be locked and where they cannot.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/run_control/heartbeat.h"
#include "launcher/run_control/run_lock.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"

// In place of the C library's: a file system that cannot lock files, when a test says so.
namespace {
bool cannot_lock = false;
}
extern "C" int flock(int fd, int operation) {
  if (cannot_lock) {
    errno = ENOLCK;
    return -1;
  }
  return static_cast<int>(syscall(SYS_flock, fd, operation));
}

namespace unipool {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using Json = nlohmann::json;

class RunLockHolderTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "run_lock_holder";
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override {
    cannot_lock = false;
    fs::remove_all(dir_);
  }
  void WriteHolder(const std::string& host, int64_t pid, int64_t started = 1) {
    std::ofstream(dir_ + "/lock")
        << Json{{"host", host}, {"pid", pid}, {"started", started}, {"job_id", "88"}}.dump();
  }
  Json Holder() const { return Json::parse(std::ifstream(dir_ + "/lock")); }
  std::string WhyNot(const RunLockOptions& options = {}) const {
    try {
      RunLock lock(dir_, options);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }

  std::string dir_;
};

TEST_F(RunLockHolderTest, TheFileSaysWhoHoldsItAndIsEmptiedAtTheEnd) {
  {
    RunLock lock(dir_);
    EXPECT_EQ(Holder()["host"], HostName());
    EXPECT_EQ(Holder()["pid"], getpid());
    EXPECT_THAT(WhyNot(), testing::HasSubstr("another run is using " + dir_ + " (host " + HostName() +
                                             ", process " + std::to_string(getpid()) + ")"));
  }
  EXPECT_EQ(fs::file_size(dir_ + "/lock"), 0u);
}

TEST_F(RunLockHolderTest, ItsFileIsAsWritableAsTheUmaskLets) {
  const mode_t before = umask(002);
  RunLock lock(dir_);
  umask(before);
  struct stat info {};
  ASSERT_EQ(stat((dir_ + "/lock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0664u);
}

TEST_F(RunLockHolderTest, WhoWaitsGetsItWhenItIsLetGo) {
  auto held = std::make_unique<RunLock>(dir_);
  std::string said;
  std::thread release([&] {
    std::this_thread::sleep_for(milliseconds(300));
    held.reset();
  });
  EXPECT_EQ(WhyNot({.wait = milliseconds(5000), .say = [&](const std::string& text) { said = text; }}), "");
  release.join();
  EXPECT_THAT(said, testing::HasSubstr("waiting up to 5 s for the lock of " + dir_));
}

TEST_F(RunLockHolderTest, TheWaitEnds) {
  RunLock held(dir_);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(WhyNot({.wait = milliseconds(500)}), testing::HasSubstr("still after 0.5 s"));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(500));
  try {
    RunLock(dir_, {.wait = milliseconds(60'000), .give_up = [] { return true; }});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.exit_code(), kStoppedExitCode);
  }
}

TEST_F(RunLockHolderTest, WithLocksTheWordsOfADeadProcessHoldNothing) {
  WriteHolder("elsewhere", 4711);
  EXPECT_EQ(WhyNot(), "");
}

TEST_F(RunLockHolderTest, WithoutLocksALivingProcessOfThisHostHoldsIt) {
  cannot_lock = true;
  WriteHolder(HostName(), 99'999'999);
  EXPECT_EQ(WhyNot(), "");
  // This process's parent lives; a process of the same number that began at another time is another one.
  const auto started = [](int64_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(file, text);
    std::istringstream fields(text.substr(text.rfind(')') + 1));
    std::string field;
    for (int i = 0; i < 20; ++i) fields >> field;
    return std::stoll(field);
  };
  WriteHolder(HostName(), getppid(), started(getppid()));
  EXPECT_THAT(WhyNot(), testing::HasSubstr("another run is using"));
  WriteHolder(HostName(), getppid(), started(getppid()) - 1);
  EXPECT_EQ(WhyNot(), "");
}

TEST_F(RunLockHolderTest, WithoutLocksAMovingHeartbeatOfAnotherHostHoldsIt) {
  cannot_lock = true;
  const RunLockOptions options{.heartbeat_patience = milliseconds(4000)};
  Heartbeat heartbeat(dir_);
  heartbeat.Beat(1, 1);
  WriteHolder("elsewhere", 4711);
  EXPECT_EQ(WhyNot(options), "") << "it stood still";
  WriteHolder("elsewhere", 4711);
  std::thread run([&] {
    std::this_thread::sleep_for(milliseconds(1100));
    heartbeat.Beat(2, 1);
  });
  EXPECT_THAT(WhyNot(options), testing::HasSubstr("host elsewhere, process 4711, job 88"));
  run.join();
}

TEST_F(RunLockHolderTest, OnlyARequeuedStartWaits) {
  unsetenv("SLURM_RESTART_COUNT");
  EXPECT_EQ(LockWaitOfThisStart(), milliseconds(0));
  setenv("SLURM_RESTART_COUNT", "0", 1);
  EXPECT_EQ(LockWaitOfThisStart(), milliseconds(0));
  setenv("SLURM_RESTART_COUNT", "2", 1);
  EXPECT_EQ(LockWaitOfThisStart(), milliseconds(120'000));
  unsetenv("SLURM_RESTART_COUNT");
}

}  // namespace
}  // namespace unipool
