#include "launcher/run_control/run_holder.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>

#include "launcher/run_control/run_lock.h"

namespace unipool {
namespace {

TEST(RunHolder, IsSeenWhileTheLockIsHeldAndNotAfter) {
  const std::string run_dir = testing::TempDir() + "holder-" + std::to_string(getpid());
  EXPECT_FALSE(HolderOf(run_dir));
  EXPECT_FALSE(std::filesystem::exists(run_dir)) << "a look creates nothing";
  {
    const RunLock lock(run_dir);
    const auto holder = HolderOf(run_dir);
    ASSERT_TRUE(holder);
    EXPECT_EQ(holder->pid, getpid());
    EXPECT_THAT(Describe(*holder), testing::HasSubstr("process " + std::to_string(getpid())));
  }
  EXPECT_FALSE(HolderOf(run_dir));
  std::filesystem::remove_all(run_dir);
}

}  // namespace
}  // namespace unipool
