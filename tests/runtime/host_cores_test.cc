#include "runtime/host_cores.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace unipool {
namespace {

using Counts = std::vector<int>;

TEST(HostCores, OfAHostAreThoseOfItsRanksTogether) {
  EXPECT_EQ(HostCoresOfRanks({"a", "a", "b", "b"}, {"0,1,", "0,1,", "4,", "5,"}), Counts({2, 2, 2, 2}));
  EXPECT_EQ(HostCoresOfRanks({"a", "a", "a"}, {"0,", "0,", "0,"}), Counts({1, 1, 1}));
}

TEST(HostCores, AreNotKnownWhereOneRankCouldNotTell) {
  EXPECT_EQ(HostCoresOfRanks({"a", "a", "b"}, {"0,", "", "1,2,"}), Counts({0, 0, 2}));
}

TEST(HostCores, FollowTheThreadsAffinity) {
  std::thread([] {
    cpu_set_t all, one;
    ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    int core = 0;
    while (!CPU_ISSET(core, &all)) ++core;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_EQ(AllowedCores(), std::to_string(core) + ",");
  }).join();
}

}  // namespace
}  // namespace unipool
