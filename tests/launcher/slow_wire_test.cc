#include "launcher/traffic_report/slow_wire.h"

#include <gtest/gtest.h>

#include <numeric>

#include "launcher/traffic_report/traffic_report.h"
#include "tests/fresh_seed.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

struct Wires {
  std::vector<std::vector<double>> megabytes_per_second;
  std::vector<int> nodes;
  std::vector<double> ports = {};
  bool buffered = false;
  bool sees_arrivals = false, has_bursts = false, sends_in_turn = false;
};

std::vector<SlowWire> FindWires(const Wires& wires) {
  ExampleRun run(static_cast<int>(wires.nodes.size()), "wires");
  run.nodes_ = wires.nodes;
  Planted plan{.world = static_cast<int>(wires.nodes.size()),
               .layers = 10,
               .steps = 6,
               .seed = static_cast<uint32_t>(FreshSeed())};
  plan.compute_us.assign(wires.nodes.size(), 100);
  plan.rows.assign(wires.nodes.size(), 1);
  plan.megabytes_per_second = wires.megabytes_per_second;
  plan.port_megabytes_per_second = wires.ports;
  plan.buffered = wires.buffered;
  plan.sees_arrivals = wires.sees_arrivals;
  plan.has_bursts = wires.has_bursts;
  plan.sends_in_turn = wires.sends_in_turn;
  AddPlanted(run, plan);
  run.Write();
  const TrafficReport report = MakeTrafficReport(run.path(), {});
  return FindSlowWires(report.traffic, report.run.manifest);
}

std::vector<std::vector<double>> Everywhere(size_t ranks, double rate) {
  return std::vector<std::vector<double>>(ranks, std::vector<double>(ranks, rate));
}

std::vector<int> NodesOf(int size) {
  std::vector<int> nodes(size);
  std::iota(nodes.begin(), nodes.end(), 0);
  return nodes;
}

SlowWire ExpectWire(const std::vector<SlowWire>& found, int from, int to) {
  EXPECT_EQ(found.size(), 1u) << SeedText();
  if (found.empty()) return {};
  EXPECT_EQ(found[0].from, from) << SeedText();
  EXPECT_EQ(found[0].to, to) << SeedText();
  return found[0];
}

// By what the report knows: waits alone, or when the bytes of each peer came too.
class SlowWireTest : public ::testing::TestWithParam<bool> {
 protected:
  static std::vector<SlowWire> Find(Wires wires) {
    wires.sees_arrivals = GetParam();
    return FindWires(wires);
  }
};

INSTANTIATE_TEST_SUITE_P(WaitsAndArrivals, SlowWireTest, ::testing::Bool());

TEST_P(SlowWireTest, FindsTheWireBetweenTwoNodes) {
  auto rates = Everywhere(5, 500);
  rates[3][1] = 100;
  const SlowWire found =
      ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 1, 2, 3, 4}, .buffered = true}), 3, 1);
  EXPECT_EQ(found.way, SlowWire::kOneWay);
  EXPECT_NEAR(found.rate, 100e6, 20e6);
}

TEST_P(SlowWireTest, FindsItBetweenNodesOfSeveralRanks) {
  auto rates = Everywhere(8, 500);
  for (const int from : {2, 3}) {
    for (const int to : {6, 7}) rates[from][to] = 60;
  }
  ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 0, 1, 1, 2, 2, 3, 3}, .buffered = true}), 1,
             3);
}

// Its own waits are the shortest of all.
TEST_P(SlowWireTest, FindsTheNodeThatSendsSlowly) {
  for (const int size : {3, 4, 6}) {
    for (const int slow : {0, size - 1}) {
      auto rates = Everywhere(size, 1000);
      std::vector<int> nodes;
      for (int n = 0; n < size; ++n) {
        nodes.push_back(n);
        if (n != slow) rates[slow][n] = 100;
      }
      const SlowWire found =
          ExpectWire(Find({.megabytes_per_second = rates, .nodes = nodes, .buffered = true}), slow, -1);
      EXPECT_EQ(found.way, SlowWire::kOneWay);
      // To all receivers together; the last of them counts, whose bytes may be the most.
      EXPECT_NEAR(found.rate, 100e6 * (size - 1), 30e6 * (size - 1)) << SeedText();
    }
  }
}

TEST_P(SlowWireTest, FindsTheNodeThatReceivesSlowly) {
  auto rates = Everywhere(4, 1000);
  for (int n = 0; n < 4; ++n) rates[n][2] = 100;
  ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 1, 2, 3}, .buffered = true}), -1, 2);
}

TEST_P(SlowWireTest, OfTwoNodesFindsTheDirection) {
  auto rates = Everywhere(4, 500);
  for (const int from : {2, 3}) {
    for (const int to : {0, 1}) rates[from][to] = 60;
  }
  ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 0, 1, 1}, .buffered = true}), 1, 0);
}

TEST_P(SlowWireTest, EqualWiresAreNotSlow) {
  for (const bool buffered : {false, true}) {
    for (const int size : {2, 3, 4, 6}) {
      std::vector<int> nodes;
      for (int n = 0; n < size; ++n) nodes.push_back(n);
      EXPECT_TRUE(
          Find({.megabytes_per_second = Everywhere(size, 300), .nodes = nodes, .buffered = buffered}).empty())
          << size << " " << SeedText();
    }
  }
}

// Ranks of one node share memory: no cable is to blame.
TEST_P(SlowWireTest, ThereIsNoneWithinANode) {
  auto rates = Everywhere(5, 500);
  rates[3][1] = 100;
  EXPECT_TRUE(Find({.megabytes_per_second = rates, .nodes = {0, 0, 0, 0, 0}, .buffered = true}).empty());
}

// A port that is slow both ways holds all up alike: nobody's waits differ. Only times of arrival tell.
TEST(SlowWire, FindsAPortThatIsSlowBothWays) {
  for (const int size : {3, 4, 8}) {
    for (const int slow : {0, size - 1}) {
      std::vector<double> ports(size, 1000);
      ports[slow] = 50;
      const SlowWire found = ExpectWire(FindWires({.megabytes_per_second = Everywhere(size, 1000),
                                                   .nodes = NodesOf(size),
                                                   .ports = ports,
                                                   .buffered = true,
                                                   .sees_arrivals = true}),
                                        slow, -1);
      EXPECT_EQ(found.way, SlowWire::kBothWays);
      EXPECT_NEAR(found.rate, 50e6, 10e6) << SeedText();
      EXPECT_GT(found.share, 0.8) << SeedText();
    }
  }
}

// Some bytes go at once, out of a buffer, and who is served first waits least: so it is on real wires.
TEST(SlowWire, FindsAPortBesideBurstsAndTurns) {
  for (const int size : {3, 4, 8, 20}) {
    std::vector<double> ports(size, 300);
    ports[1] = 60;
    const SlowWire found = ExpectWire(FindWires({.megabytes_per_second = Everywhere(size, 1000),
                                                 .nodes = NodesOf(size),
                                                 .ports = ports,
                                                 .buffered = true,
                                                 .sees_arrivals = true,
                                                 .has_bursts = true}),
                                      1, -1);
    EXPECT_EQ(found.way, SlowWire::kBothWays);
    auto rates = Everywhere(size, 300);
    for (double& rate : rates[1]) rate = 60;
    ExpectWire(FindWires({.megabytes_per_second = rates,
                          .nodes = NodesOf(size),
                          .buffered = true,
                          .sees_arrivals = true,
                          .has_bursts = true,
                          .sends_in_turn = true}),
               1, -1);
  }
}

TEST(SlowWire, FindsALinkThatIsSlowBothWays) {
  auto rates = Everywhere(5, 500);
  rates[3][1] = rates[1][3] = 50;
  const SlowWire found = ExpectWire(
      FindWires(
          {.megabytes_per_second = rates, .nodes = {0, 1, 2, 3, 4}, .buffered = true, .sees_arrivals = true}),
      1, 3);
  EXPECT_EQ(found.way, SlowWire::kBothWays);
}

// Two of six: no single wire is to blame.
TEST(SlowWire, TwoSlowPortsAreNotOne) {
  EXPECT_TRUE(FindWires({.megabytes_per_second = Everywhere(6, 1000),
                         .nodes = {0, 1, 2, 3, 4, 5},
                         .ports = {1000, 50, 1000, 1000, 50, 1000},
                         .buffered = true,
                         .sees_arrivals = true})
                  .empty())
      << SeedText();
}

}  // namespace
}  // namespace unipool
