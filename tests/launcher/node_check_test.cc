#include "launcher/slurm/node_check.h"

#include <gmock/gmock.h>

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<NodeFigures> Nodes(int count) {
  std::vector<NodeFigures> nodes;
  for (int i = 0; i < count; ++i) {
    NodeFigures node{.host = "n" + std::to_string(i), .gemm_gflops = 100.0 + i, .memory_gbps = 10.0 - i};
    for (int k = 0; k < count; ++k) node.exchange_seconds.push_back(i == k ? 0 : 0.001 * (1 + 0.1 * (i + k)));
    nodes.push_back(node);
  }
  return nodes;
}

TEST(FindSlowNodes, EqualNodesAreFine) {
  for (int count = 1; count <= 5; ++count) EXPECT_TRUE(FindSlowNodes(Nodes(count), 3).empty());
}

TEST(FindSlowNodes, NamesTheSlowOneAlone) {
  auto nodes = Nodes(4);
  nodes[2].gemm_gflops = 20;
  ASSERT_EQ(FindSlowNodes(nodes, 3).size(), 1U);
  EXPECT_EQ(FindSlowNodes(nodes, 3)[0].host, "n2");
  EXPECT_THAT(FindSlowNodes(nodes, 3)[0].reason, HasSubstr("20 GFLOP/s"));
  nodes = Nodes(4);
  nodes[1].memory_gbps = 1;
  EXPECT_EQ(FindSlowNodes(nodes, 3).at(0).host, "n1");
}

TEST(FindSlowNodes, ASlowWireIsItsNodesAndNotItsPartners) {
  auto nodes = Nodes(4);
  for (int i = 0; i < 4; ++i) {
    if (i == 3) continue;
    nodes[3].exchange_seconds[i] = nodes[i].exchange_seconds[3] = 0.05;
  }
  const auto slow = FindSlowNodes(nodes, 3);
  ASSERT_EQ(slow.size(), 1U);
  EXPECT_EQ(slow[0].host, "n3");
  EXPECT_TRUE(FindSlowNodes({nodes[3], nodes[3]}, 3).empty()) << "of two nobody can tell which";
}

TEST(FindSlowNodes, AFaultIsToldFirst) {
  auto nodes = Nodes(2);
  nodes[0].fault = "memory holds other values";
  nodes[0].gemm_gflops = 1;
  ASSERT_EQ(FindSlowNodes(nodes, 3).size(), 1U);
  EXPECT_EQ(FindSlowNodes(nodes, 3)[0].reason, "memory holds other values");
}

std::vector<SlowNode> Slow(const std::vector<std::string>& hosts) {
  std::vector<SlowNode> slow;
  for (const std::string& host : hosts) slow.push_back({host, "is slow"});
  return slow;
}

TEST(ChooseNodes, WithoutSpareAllOrNone) {
  EXPECT_TRUE(ChooseNodes(Nodes(3), {}, 0).is_enough);
  EXPECT_THAT(ChooseNodes(Nodes(3), {}, 0).hosts, ElementsAre("n0", "n1", "n2"));
  const NodeChoice none = ChooseNodes(Nodes(3), Slow({"n1"}), 0);
  EXPECT_FALSE(none.is_enough);
  EXPECT_THAT(none.hosts, ElementsAre());
  EXPECT_THAT(none.slow_hosts, ElementsAre("n1"));
  EXPECT_EQ(none.reason, "n1: is slow");
}

TEST(ChooseNodes, SpareNodesStandInForSlowOnes) {
  NodeChoice choice = ChooseNodes(Nodes(4), Slow({"n1"}), 2);
  EXPECT_TRUE(choice.is_enough);
  EXPECT_THAT(choice.hosts, ElementsAre("n0", "n2"));
  EXPECT_THAT(choice.spare_hosts, ElementsAre("n1", "n3"));
  choice = ChooseNodes(Nodes(4), {}, 1);
  EXPECT_THAT(choice.hosts, ElementsAre("n0", "n1", "n2"));
  EXPECT_THAT(choice.spare_hosts, ElementsAre("n3"));
  choice = ChooseNodes(Nodes(4), Slow({"n0", "n3"}), 1);
  EXPECT_FALSE(choice.is_enough);
  EXPECT_THAT(choice.slow_hosts, ElementsAre("n0", "n3"));
}

}  // namespace
}  // namespace unipool
