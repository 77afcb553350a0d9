// Quotas of control groups, from folders written as the kernel shows them.
#include "launcher/plan/core_quota.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace unipool {
namespace {

namespace fs = std::filesystem;

class CoreQuotaTest : public testing::Test {
 protected:
  ~CoreQuotaTest() override { fs::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  double Cores(const std::string& groups) const { return QuotaOf(groups, root_.string()).cores; }
  const fs::path root_ = fs::path(testing::TempDir()) / ("core_quota_test_" + std::to_string(getpid()));
};

TEST_F(CoreQuotaTest, TheTightestGroupAroundHolds) {
  Write("pods/one/job/cpu.max", "max 100000");
  Write("pods/one/cpu.max", "150000 100000");
  Write("pods/cpu.max", "800000 100000");
  const CoreQuota quota = QuotaOf("0::/pods/one/job\n", root_.string());
  EXPECT_EQ(quota.cores, 1.5);
  EXPECT_EQ(quota.group, "/pods/one");
  EXPECT_EQ(Cores("0::/pods\n"), 8);
  EXPECT_EQ(Cores("0::/other\n"), 0);
  EXPECT_EQ(Cores("0::/../../elsewhere\n"), 0);
  EXPECT_EQ(Cores(""), 0);
}

// A container sees its own group as the root.
TEST_F(CoreQuotaTest, TheRootOfANamespaceCounts) {
  Write("cpu.max", "50000 100000");
  EXPECT_EQ(Cores("0::/\n"), 0.5);
  EXPECT_EQ(Cores("0::/inside\n"), 0.5);
}

TEST_F(CoreQuotaTest, BothVersionsAreRead) {
  Write("cpu,cpuacct/box/cpu.cfs_quota_us", "250000");
  Write("cpu,cpuacct/box/cpu.cfs_period_us", "100000");
  Write("cpu,cpuacct/free/cpu.cfs_quota_us", "-1");
  Write("cpu,cpuacct/free/cpu.cfs_period_us", "100000");
  EXPECT_EQ(Cores("4:memory:/x\n2:cpu,cpuacct:/box\n0::/\n"), 2.5);
  EXPECT_EQ(Cores("2:cpu,cpuacct:/free\n"), 0);
  EXPECT_EQ(Cores("2:cpuset:/box\n"), 0);
}

TEST_F(CoreQuotaTest, GroupsOfANodeAddUp) {
  const CoreQuota one{.cores = 1.5, .group = "/one"}, two{.cores = 2, .group = "/two words"};
  EXPECT_EQ(CoresOfQuotas({one, one}), 1.5);
  EXPECT_EQ(CoresOfQuotas({one, two, one}), 3.5);
  EXPECT_EQ(CoresOfQuotas({one, {}}), 0) << "one has no limit";
  EXPECT_EQ(QuotaOfText(TextOf(two)).cores, 2);
  EXPECT_EQ(QuotaOfText(TextOf(two)).group, "/two words");
  EXPECT_EQ(QuotaOfText(TextOf({})).cores, 0);
}

}  // namespace
}  // namespace unipool
