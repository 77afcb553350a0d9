// Limits of memory as a machine's files tell them.
#include "runtime/host_memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>

namespace unipool {
namespace {

class HostMemory : public testing::Test {
 protected:
  HostMemory() { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  const std::string root_ = testing::TempDir() + "host_memory";
};

TEST_F(HostMemory, OfTheMachine) {
  Write("/proc/meminfo", "MemTotal:  1000 kB\nMemFree: 7 kB\nSwapTotal:    24 kB\n");
  EXPECT_EQ(HostMemoryLimit(root_).bytes, 1024 * 1024);
  EXPECT_EQ(HostMemoryLimit(root_).name, "this host's RAM and swap");
}

TEST_F(HostMemory, TheLeastLimitOfTheGroupsAbove) {
  Write("/proc/meminfo", "MemTotal:  1000 kB\n");
  Write("/proc/self/cgroup", "0::/job/step\n");
  Write("/sys/fs/cgroup/job/memory.max", "5000\n");
  Write("/sys/fs/cgroup/job/step/memory.max", "max\n");
  EXPECT_EQ(HostMemoryLimit(root_).bytes, 5000);
  EXPECT_NE(HostMemoryLimit(root_).name.find("cgroup"), std::string::npos);
}

TEST_F(HostMemory, OfVersion1) {
  Write("/proc/meminfo", "MemTotal:  1000 kB\n");
  Write("/proc/self/cgroup", "3:cpu,memory:/job\n2:pids:/job\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "6000\n");
  EXPECT_EQ(HostMemoryLimit(root_).bytes, 6000);
}

TEST_F(HostMemory, UnknownIsNoLimit) {
  EXPECT_EQ(HostMemoryLimit(root_).bytes, kNoMemoryLimit);
}

TEST_F(HostMemory, OfTheAddressSpace) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  const rlimit less{.rlim_cur = rlim_t{1} << 45, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &less), 0);
  EXPECT_EQ(ProcessMemoryLimit().bytes, int64_t{1} << 45);
  setrlimit(RLIMIT_AS, &before);
}

}  // namespace
}  // namespace unipool
