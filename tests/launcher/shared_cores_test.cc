// Cores of nodes, from what each rank says of its machine, and who is told that no step is planned.
#include "launcher/plan/shared_cores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unipool {
namespace {

using testing::HasSubstr;

double Cores(const std::vector<int>& nodes, const std::vector<std::string>& machines,
             const std::vector<std::string>& cores) {
  return CoresPerNode(nodes, machines, cores, std::vector<CoreQuota>(nodes.size()));
}

ClusterConfig Described(int ranks_per_node, double cores, int at_once) {
  ClusterConfig cluster;
  cluster.set_ranks_per_node(ranks_per_node);
  cluster.set_cores_per_node(cores);
  cluster.mutable_processor()->set_ranks_at_once(at_once);
  return cluster;
}

TEST(SharedCores, ANodeHasTheCoresOfAllItsRanks) {
  EXPECT_EQ(Cores({0, 0, 1, 1}, {"a", "a", "b", "b"}, {"0,1,", "0,1,", "4,", "5,"}), 2);
  EXPECT_EQ(Cores({0, 0, 1, 1}, {"a", "a", "b", "b"}, {"0,1,", "0,1,", "4,", "4,"}), 1);
  EXPECT_EQ(Cores({0, 0, 1}, {"a", "a", "b"}, {"0,1,", "0,1,", ""}), 0) << "not known of one";
}

TEST(SharedCores, NodesOfOneMachineShareItsCores) {
  const std::string both = "0,1,";
  EXPECT_EQ(Cores({0, 1}, {"a", "a"}, {both, both}), 1);
  EXPECT_EQ(Cores({0, 1, 2, 3}, {"a", "a", "a", "a"}, {both, both, both, both}), 0.5);
  EXPECT_EQ(Cores({0, 1, 2}, {"a", "b", "b"}, {both, both, both}), 1) << "the fewest";
}

TEST(SharedCores, ANodeHasNoMoreThanItsQuotas) {
  const std::string four = "0,1,2,3,";
  const CoreQuota one{.cores = 1.5, .group = "/a"}, other{.cores = 1, .group = "/b"};
  EXPECT_EQ(CoresPerNode({0, 0}, {"a", "a"}, {four, four}, {one, one}), 1.5);
  EXPECT_EQ(CoresPerNode({0, 0}, {"a", "a"}, {four, four}, {one, other}), 2.5);
  EXPECT_EQ(CoresPerNode({0, 0}, {"a", "a"}, {four, four}, {one, {}}), 4) << "one has no limit";
  EXPECT_EQ(CoresPerNode({0, 1}, {"a", "b"}, {four, four}, {{}, one}), 1.5) << "the fewest";
}

TEST(SharedCores, MoreRanksThanCoresAreTold) {
  EXPECT_EQ(SharedCoresText(Described(0, 2, 2), 2), "");
  EXPECT_THAT(SharedCoresText(Described(0, 2, 2), 4), HasSubstr("4 ranks of a node share 2 cores"));
  EXPECT_EQ(SharedCoresText(Described(2, 2, 2), 8), "") << "on 4 nodes";
  EXPECT_THAT(SharedCoresText(Described(1, 0.5, 1), 4), HasSubstr("1 rank of a node share 0.5 cores"));
  EXPECT_EQ(SharedCoresText(Described(0, 0, 0), 64), "") << "a file that does not say";
}

TEST(SharedCores, RatesOfRanksThatSharedCoresAreTold) {
  EXPECT_THAT(SharedCoresText(Described(0, 2, 4), 2),
              HasSubstr("measured by 4 ranks of a node that shared 2"));
  EXPECT_EQ(SharedCoresText(Described(0, 2, 1), 2), "");
}

TEST(SharedCores, HostsOfOneKernelAreOneMachine) {
  EXPECT_EQ(MachineOf("a"), MachineOf("b"));
  EXPECT_NE(MachineOf("a"), "");
}

}  // namespace
}  // namespace unipool
