#include "runtime/cluster_description.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(ClusterDescription, ConsecutiveRanksShareANode) {
  const ClusterDescription pairs{.ranks_per_node = 2};
  EXPECT_EQ(pairs.NodeOf(0), pairs.NodeOf(1));
  EXPECT_NE(pairs.NodeOf(1), pairs.NodeOf(2));
  EXPECT_EQ(pairs.NodeOf(2), pairs.NodeOf(3));
  const ClusterDescription one_node;
  EXPECT_EQ(one_node.NodeOf(0), one_node.NodeOf(1000));
}

TEST(WireDescription, BandwidthZeroIsInfinitelyFast) {
  EXPECT_EQ(WireDescription{.bytes_per_second = 100}.Seconds(250), 2.5);
  EXPECT_EQ(WireDescription{}.Seconds(250), 0);
}

}  // namespace
}  // namespace unipool
