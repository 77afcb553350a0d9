// What killed MPI jobs leave, in folders that play the machine's part.
#include "runtime/mpi_leftovers.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/watchdog.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

class MpiLeftoversTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "leftovers";
    fs::remove_all(root_);
    host_ = HostName().substr(0, HostName().find('.'));
    user_ = std::to_string(geteuid());
    fs::create_directories(root_ + "/shm");
    fs::create_directories(root_ + "/tmp");
  }
  void TearDown() override { fs::remove_all(root_); }

  void Write(const std::string& path) {
    fs::create_directories(fs::path(root_ + "/" + path).parent_path());
    std::ofstream(root_ + "/" + path) << std::string(8192, 'x');
  }
  Leftovers Remove(int youngest_seconds = 0) {
    return RemoveMpiLeftovers(
        {.shared_memory = root_ + "/shm", .temporary = root_ + "/tmp", .youngest_seconds = youngest_seconds});
  }
  bool Exists(const std::string& path) { return fs::exists(root_ + "/" + path); }

  std::string root_, host_, user_;
};

TEST_F(MpiLeftoversTest, SegmentsThatNobodyMapsGo) {
  const std::string old = "shm/vader_segment." + host_ + "." + user_ + ".64870001.0";
  const std::string five = "shm/sm_segment." + host_ + "." + user_ + ".1.0";
  const std::string other_host = "shm/vader_segment.elsewhere." + user_ + ".64870001.0",
                    other = "shm/mine.dat";
  for (const std::string& path : {old, five, other_host, other}) Write(path);
  EXPECT_EQ(Remove(3600).segments, 0) << "young";
  const Leftovers gone = Remove();
  EXPECT_EQ(gone.segments, 2);
  EXPECT_EQ(gone.bytes, 2 * 8192);
  EXPECT_FALSE(Exists(old) || Exists(five));
  EXPECT_TRUE(Exists(other_host) && Exists(other));
}

TEST_F(MpiLeftoversTest, WhatALivingProcessMapsStays) {
  const std::string path = "shm/vader_segment." + host_ + "." + user_ + ".64870001.0";
  Write(path);
  const int fd = open((root_ + "/" + path).c_str(), O_RDWR);
  void* const mapped = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(Remove().segments, 0);
  EXPECT_TRUE(Exists(path));
  munmap(mapped, 4096);
  EXPECT_EQ(Remove().segments, 1);
}

TEST_F(MpiLeftoversTest, FoldersOfDeadLaunchersGo) {
  const std::string sessions = "tmp/ompi." + host_ + "." + user_ + "/";
  const std::string dead = sessions + "pid.99999999", living = sessions + "pid." + std::to_string(getpid());
  const std::string unknown = sessions + "jf.77", mine = sessions + "notes",
                    five = "tmp/prte." + host_ + ".99999998." + user_;
  for (const std::string& folder : {dead, living, unknown, mine, five}) Write(folder + "/1/0/file");
  const Leftovers gone = Remove();
  EXPECT_EQ(gone.folders, 2);
  EXPECT_FALSE(Exists(dead) || Exists(five));
  EXPECT_TRUE(Exists(living) && Exists(mine));
  EXPECT_TRUE(Exists(unknown)) << "it is not known whether its launcher lives, and it is young";
}

TEST_F(MpiLeftoversTest, NothingThereIsNoError) {
  const Leftovers gone = RemoveMpiLeftovers({.shared_memory = "/no/such", .temporary = "/no/such"});
  EXPECT_EQ(gone.segments + gone.folders, 0);
}

}  // namespace
}  // namespace unipool
