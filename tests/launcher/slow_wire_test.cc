#include "launcher/traffic_report/slow_wire.h"

#include <gtest/gtest.h>

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
};

std::vector<SlowWire> Find(const Wires& wires) {
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
  AddPlanted(run, plan);
  run.Write();
  const TrafficReport report = MakeTrafficReport(run.path(), {});
  return FindSlowWires(report.traffic, report.run.manifest);
}

std::vector<std::vector<double>> Everywhere(size_t ranks, double rate) {
  return std::vector<std::vector<double>>(ranks, std::vector<double>(ranks, rate));
}

SlowWire ExpectWire(const std::vector<SlowWire>& found, int from, int to) {
  EXPECT_EQ(found.size(), 1u) << SeedText();
  if (found.empty()) return {};
  EXPECT_EQ(found[0].from, from) << SeedText();
  EXPECT_EQ(found[0].to, to) << SeedText();
  return found[0];
}

TEST(SlowWire, FindsTheWireBetweenTwoNodes) {
  auto rates = Everywhere(5, 500);
  rates[3][1] = 100;
  const SlowWire found =
      ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 1, 2, 3, 4}, .buffered = true}), 3, 1);
  EXPECT_TRUE(found.is_one_way);
  EXPECT_NEAR(found.rate, 100e6, 20e6);
}

TEST(SlowWire, FindsItBetweenNodesOfSeveralRanks) {
  auto rates = Everywhere(8, 500);
  for (const int from : {2, 3}) {
    for (const int to : {6, 7}) rates[from][to] = 60;
  }
  ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 0, 1, 1, 2, 2, 3, 3}, .buffered = true}), 1,
             3);
}

// Its own waits are the shortest of all.
TEST(SlowWire, FindsTheNodeThatSendsSlowly) {
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
      EXPECT_TRUE(found.is_one_way);
      EXPECT_NEAR(found.rate, 100e6 * (size - 1), 20e6 * (size - 1)) << "to all receivers together";
    }
  }
}

TEST(SlowWire, FindsTheNodeThatReceivesSlowly) {
  auto rates = Everywhere(4, 1000);
  for (int n = 0; n < 4; ++n) rates[n][2] = 100;
  ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 1, 2, 3}, .buffered = true}), -1, 2);
}

TEST(SlowWire, OfTwoNodesFindsTheDirection) {
  auto rates = Everywhere(4, 500);
  for (const int from : {2, 3}) {
    for (const int to : {0, 1}) rates[from][to] = 60;
  }
  ExpectWire(Find({.megabytes_per_second = rates, .nodes = {0, 0, 1, 1}, .buffered = true}), 1, 0);
}

TEST(SlowWire, EqualWiresAreNotSlow) {
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
TEST(SlowWire, ThereIsNoneWithinANode) {
  auto rates = Everywhere(5, 500);
  rates[3][1] = 100;
  EXPECT_TRUE(Find({.megabytes_per_second = rates, .nodes = {0, 0, 0, 0, 0}, .buffered = true}).empty());
}

}  // namespace
}  // namespace unipool
