#include "launcher/traffic_report/slow_wire.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

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

// What shared ports look like to a report: `steps` of 20 exchanges, clocks of hosts that differ.
std::vector<SlowWire> FindAmongPorts(const SharedPorts& ports, const std::vector<double>& rows = {},
                                     int steps = 8) {
  const int size = static_cast<int>(ports.out.size());
  std::mt19937 random(static_cast<uint32_t>(FreshSeed()));
  std::uniform_real_distribution<double> wrong(-1, 1);
  ExampleRun run(size, "ports");
  run.nodes_ = NodesOf(size);
  for (int rank = 1; rank < size; ++rank) {
    run.clocks_[rank] = {.boot_id = "b" + std::to_string(rank),
                         .drift = 5e-5 * wrong(random),
                         .offset = std::llround(3e9 * wrong(random))};
  }
  Planted plan{.world = size,
               .layers = 10,
               .steps = steps,
               .sees_arrivals = true,
               .first_begin_ns = 10'000'000'000,
               .seed = static_cast<uint32_t>(FreshSeed())};
  plan.compute_us.assign(size, 200);
  if (!rows.empty()) plan.compute_us[0] = 400;
  plan.rows = rows.empty() ? std::vector<double>(size, 1) : rows;
  plan.hot_layer = -2;
  plan.ports = ports;
  plan.late_us = 150;
  AddPlanted(run, plan);
  for (int rank = 1; rank < size; ++rank) {
    for (const int64_t ns : {9'000'000'000, 20'000'000'000})
      run.Compare(rank, ns, 20'000, std::llround(20'000 * wrong(random)));
  }
  run.Write();
  const TrafficReport report = MakeTrafficReport(run.path(), {});
  return FindSlowWires(report.traffic, report.run.manifest);
}

SharedPorts LevelPorts(int size) {
  return {.out = std::vector<double>(size, 100), .in = std::vector<double>(size, 100)};
}

// Of a port at `speed` of the others. way: 0: what it sends, 1: what it receives, 2: both.
void ExpectPort(int size, int node, int way, double speed) {
  SCOPED_TRACE(::testing::Message() << size << " nodes, node " << node << ", way " << way << ", speed "
                                    << speed);
  SharedPorts ports = LevelPorts(size);
  if (way != 1) ports.out[node] *= speed;
  if (way != 0) ports.in[node] *= speed;
  const std::vector<SlowWire> found = FindAmongPorts(ports, {}, size > 4 ? 4 : 8);
  ASSERT_EQ(found.size(), 1u) << SeedText();
  EXPECT_EQ(found[0].from, way == 1 ? -1 : node) << SeedText();
  EXPECT_EQ(found[0].to, way == 1 ? node : -1) << SeedText();
  EXPECT_EQ(found[0].way, way == 2 ? SlowWire::kBothWays : SlowWire::kOneWay) << SeedText();
  EXPECT_NEAR(found[0].rate, speed * 100e6, 0.3 * speed * 100e6) << SeedText();
  if (way == 2) {
    EXPECT_NEAR(found[0].back_rate, speed * 100e6, 0.3 * speed * 100e6) << SeedText();
  }
  EXPECT_GT(found[0].next_rate, 1.15 * found[0].rate) << SeedText();
}

TEST(SlowWire, FindsAPortThatIsHalfAsFast) {
  for (const int size : {3, 4, 8}) {
    for (const int way : {0, 1, 2}) ExpectPort(size, size / 2, way, 0.5);
  }
}

TEST(SlowWire, FindsAPortAtSevenTenths) {
  for (const int size : {4, 8}) {
    for (const int way : {0, 1, 2}) ExpectPort(size, 1, way, 0.7);
  }
}

// The link's share of its ports would be a third of 100 MB/s. One way is not told as both.
TEST(SlowWire, FindsALinkAmongPorts) {
  for (const double speed : {0.5, 0.7}) {
    for (const bool both : {false, true}) {
      SharedPorts ports = LevelPorts(4);
      ports.links = Everywhere(4, 100);
      ports.links[1][3] = speed * 100 / 3;
      if (both) ports.links[3][1] = speed * 100 / 3;
      const SlowWire found = ExpectWire(FindAmongPorts(ports, {}, 16), 1, 3);
      EXPECT_EQ(found.way, both ? SlowWire::kBothWays : SlowWire::kOneWay) << speed << " " << SeedText();
      EXPECT_NEAR(found.rate, speed * 100e6 / 3, 0.2 * speed * 100e6 / 3) << SeedText();
    }
  }
}

// However rows and computing differ, and whatever clocks say.
TEST(SlowWire, LevelPortsAreNotNamed) {
  std::mt19937 random(static_cast<uint32_t>(FreshSeed()));
  std::uniform_real_distribution<double> hot(0.5, 3);
  for (int n = 0; n < 40; ++n) {
    const int size = 2 + n % 5;
    std::vector<double> rows;
    for (int rank = 0; rank < size; ++rank) rows.push_back(n % 2 == 0 ? 1 : hot(random));
    const std::vector<SlowWire> found = FindAmongPorts(LevelPorts(size), rows);
    EXPECT_TRUE(found.empty()) << n << ": " << size << " nodes, from " << found[0].from << " to "
                               << found[0].to << ", " << found[0].times << " " << SeedText();
  }
}

}  // namespace
}  // namespace unipool
