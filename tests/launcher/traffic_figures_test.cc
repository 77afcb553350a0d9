#include "launcher/traffic_report/traffic_figures.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "launcher/traffic_report/recorded_json.h"
#include "launcher/traffic_report/traffic_report.h"
#include "runtime/errors.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

// Three ranks and two exchanges, all numbers by hand. Rank 2 starts last and is waited for.
class FiguresTest : public ::testing::Test {
 protected:
  FiguresTest() : run_(3, "figures") {
    run_.nodes_ = {0, 0, 1};
    ExampleExchange forward{.operation = "dispatch forward", .lane = 0, .layer = 4, .row_bytes = 10};
    forward.calls = {{100, 110, 200}, {100, 120, 190}, {160, 161, 200}};
    forward.bytes = {{10, 20, 30}, {40, 50, 60}, {70, 80, 90}};
    ExampleExchange sums{.operation = "dense gradients", .lane = -1, .layer = -1, .row_bytes = 0};
    sums.calls = {{300, 300, 330}, {310, 310, 330}, {300, 300, 330}};
    sums.bytes = {{0, 5, 5}, {5, 0, 5}, {5, 5, 0}};
    run_.AddStep(7, 0, 400, {forward, sums});
    run_.Write();
  }
  TrafficFigures Figures(const ExchangeFilter& filter = {}) {
    folder_ = ReadRecordedRun(run_.path(), {});
    const ClockMap clocks(folder_);
    JoinedTraffic traffic = JoinTraffic(folder_, clocks);
    SplitExchanges(traffic, folder_.manifest, clocks);
    return FiguresOfRecords(folder_, traffic, filter);
  }
  ExampleRun run_;
  RecordedRun folder_;
};

TEST_F(FiguresTest, AddUpToTheStep) {
  const TrafficFigures figures = Figures();
  ASSERT_TRUE(figures.is_split);
  ASSERT_EQ(figures.ranks.size(), 3u);
  const RankFigures &first = figures.ranks[0], &last = figures.ranks[2];
  EXPECT_EQ(first.step, 400);
  EXPECT_EQ(first.waits.blocked, 90 + 30);
  EXPECT_EQ(first.waits.idle, 50 + 10);
  EXPECT_EQ(first.waits.exposed, 40 + 20);
  EXPECT_EQ(first.Compute(), 280);
  EXPECT_EQ(last.waits.idle, 0 + 10);
  EXPECT_EQ(last.caused, 50 + 40);
  EXPECT_EQ(figures.ranks[1].caused, 10 + 10);
  EXPECT_EQ(figures.owed[1][2], 40);
  EXPECT_EQ(figures.owed[2][1], 10);
  EXPECT_EQ(figures.steps.at(0).step, 400);
}

TEST_F(FiguresTest, CountBytesByWire) {
  const TrafficFigures figures = Figures();
  const VolumeFigures& first = figures.ranks[0].volume;
  EXPECT_EQ(first.intra, 20 + 5);
  EXPECT_EQ(first.inter, 30 + 5);
  EXPECT_EQ(first.self, 10);
  EXPECT_EQ(first.received, 40 + 70 + 10);
  EXPECT_THAT(figures.matrices.at("dispatch forward")[1], ElementsAre(40, 50, 60));
  EXPECT_THAT(figures.matrices.at("")[1], ElementsAre(45, 50, 65));
  const CellFigures& cell = figures.cells.at({"pool", "dispatch forward", 0, 4});
  EXPECT_EQ(cell.volume.Wire(), 20 + 30 + 40 + 60 + 70 + 80);
  EXPECT_EQ(cell.worst_rank, 0);
  EXPECT_EQ(cell.waits.blocked, (90 + 70 + 39) / 3.0);
}

// Rows with those of the rank itself: 12, 15 and 18 of 45.
TEST_F(FiguresTest, CountRowsAndImbalance) {
  const TrafficFigures figures = Figures();
  EXPECT_THAT(figures.rows.at(4), ElementsAre(12, 15, 18));
  EXPECT_THAT(figures.steps.at(0).imbalance, DoubleNear(18 / 15.0, 1e-12));
}

TEST_F(FiguresTest, FilterByLaneLayerAndOperation) {
  EXPECT_EQ(Figures({.layer = 4, .lane = -1, .operation = ""}).ranks[0].waits.blocked, 90);
  EXPECT_EQ(Figures({.layer = -1, .lane = -1, .operation = "dense gradients"}).ranks[0].waits.blocked, 30);
  EXPECT_TRUE(Figures({.layer = -1, .lane = 1, .operation = ""}).cells.empty());
}

TEST_F(FiguresTest, PutsNodesTogether) {
  const TrafficFigures nodes = ByNode(Figures(), {0, 0, 1});
  ASSERT_EQ(nodes.ranks.size(), 2u);
  EXPECT_EQ(nodes.ranks[0].step, 400);
  EXPECT_EQ(nodes.ranks[0].volume.inter, 30 + 60 + 5 + 5);
  EXPECT_EQ(nodes.ranks[0].waits.blocked, (90 + 30 + 70 + 20) / 2.0);
  EXPECT_EQ(nodes.ranks[1].caused, 90);
  EXPECT_THAT(nodes.matrices.at("dispatch forward")[0], ElementsAre(10 + 20 + 40 + 50, 90));
  EXPECT_THAT(nodes.owed[0], ElementsAre(10, 90));
}

// In each of two exchanges another rank is busiest. The mean of the maxima says so; the sums of
// ranks are level.
TEST(Imbalance, IsTheMeanOfMaximaAndNotTheMaximumOfMeans) {
  ExampleRun run(2, "imbalance");
  ExampleExchange one{.row_bytes = 1}, other{.row_bytes = 1};
  one.calls = {{1, 2, 9}, {1, 2, 9}};
  other.calls = {{11, 12, 19}, {11, 12, 19}};
  one.bytes = {{3, 1}, {3, 1}};
  other.bytes = {{1, 3}, {1, 3}};
  run.AddStep(0, 0, 30, {one, other});
  run.Write();
  const RecordedRun folder = ReadRecordedRun(run.path(), {});
  const ClockMap clocks(folder);
  const JoinedTraffic traffic = JoinTraffic(folder, clocks);
  const TrafficFigures figures = FiguresOfRecords(folder, traffic, {});
  EXPECT_DOUBLE_EQ(figures.steps.at(0).imbalance, 1.5);
  EXPECT_THAT(figures.rows.at(0), ElementsAre(8, 8));
}

constexpr const char* kWindow = R"({"first_step": 0, "last_step": 9, "steps": 10, "split_steps": 10,
 "ranks": {"step_ns": [1000, 1200], "blocked_ns": [300, 100], "start_ns": [1, 1], "idle_ns": [200, 20],
  "idle_receiver_ns": [0, 10], "exposed_ns": [100, 70], "hidden_ns": [null, null], "wire_bytes": [50, 60],
  "wire_bytes_inter": [40, 60], "self_bytes": [7, 8], "received_bytes": [60, 50], "exchanges": [20, 20],
  "dropped": [0, 3], "first_use": [1, 1], "split_blocked_ns": [300, 100]},
 "cells": [{"communicator": "pool", "operation": "dispatch forward", "lane": 0, "layer": 2, "by": "rank",
  "count": [20, 20], "bytes_intra": [10, 0], "bytes_inter": [40, 60], "bytes_self": [7, 8], "blocked_ns": [300, 100],
  "idle_ns": [200, 20], "idle_receiver_ns": [0, 10], "exposed_ns": [100, 70], "hidden_ns": [null, null]}],
 "matrices": [{"communicator": "pool", "operation": "dispatch forward", "by": "rank", "bytes": [[7, 50], [60, 8]]}],
 "idle_matrix": {"by": "rank", "ns": [[0, 200], [30, 0]]},
 "imbalance": {"mean": 1.25, "p95": 1.5, "slots": 8}})";

TEST(WindowFigures, AreThoseOfOneStep) {
  RecordedRun folder;
  folder.manifest.world = 2;
  folder.manifest.node_of_rank = {0, 1};
  folder.windows = {ParseRecordedWindow(kWindow, "window")};
  const TrafficFigures figures = FiguresOfWindows(folder, {});
  EXPECT_TRUE(figures.is_split);
  EXPECT_EQ(figures.num_steps, 10);
  EXPECT_EQ(figures.ranks[0].step, 100);
  EXPECT_EQ(figures.ranks[0].waits.idle, 20);
  EXPECT_EQ(figures.ranks[1].waits.idle_receiver, 1);
  EXPECT_EQ(figures.ranks[1].caused, 20);
  EXPECT_EQ(figures.ranks[0].volume.intra, 1);
  EXPECT_EQ(figures.ranks[0].volume.inter, 4);
  EXPECT_FALSE(IsKnown(figures.ranks[0].waits.hidden));
  EXPECT_EQ(figures.matrices.at("")[1][0], 6);
  EXPECT_EQ(figures.dropped, 3);
  EXPECT_EQ(figures.steps.at(0).imbalance, 1.25);
  const CellFigures& cell = figures.cells.at({"pool", "dispatch forward", 0, 2});
  EXPECT_EQ(cell.waits.blocked, 20);
  EXPECT_EQ(cell.volume.exchanges, 4);
  EXPECT_EQ(cell.worst_rank, 0);
}

// MPI ranks poll while they wait; ranks that are threads rest, so only their computing shows.
TEST(WindowFigures, TellTimeWithoutACore) {
  nlohmann::json json = nlohmann::json::parse(kWindow);
  RecordedRun run;
  run.manifest.world = 2;
  run.manifest.node_of_rank = {0, 0};
  run.manifest.row_bytes = 10;
  const auto figures_of = [&](const std::string& carrier) {
    run.manifest.carrier = carrier;
    run.windows = {ParseRecordedWindow(json.dump(), "window")};
    return FiguresOfWindows(run, {});
  };
  EXPECT_FALSE(IsKnown(figures_of("MPI").ranks[0].off_core)) << "older windows do not tell";
  json["ranks"]["cpu_ns"] = {950, 300};
  json["ranks"]["queued_ns"] = {10, 850};
  json["ranks"]["pushed_off"] = {0, 50};
  const TrafficFigures polls = figures_of("MPI"), rests = figures_of("threads");
  EXPECT_DOUBLE_EQ(polls.ranks[0].off_core, 5);
  EXPECT_DOUBLE_EQ(polls.ranks[1].off_core, 90);
  EXPECT_DOUBLE_EQ(polls.ranks[1].queued, 85);
  EXPECT_DOUBLE_EQ(polls.ranks[1].pushed_off, 5);
  EXPECT_DOUBLE_EQ(rests.ranks[0].off_core, 1) << "what it queued for";
  EXPECT_DOUBLE_EQ(rests.ranks[1].off_core, 85);
  EXPECT_DOUBLE_EQ(polls.ranks[0].rows, (0.7 + 6) / 10) << "from the bytes that bring them, its own too";
}

// Waits for what a filter leaves out are no computing.
TEST(WindowFigures, AFilterLeavesComputingAsItIs) {
  nlohmann::json json = nlohmann::json::parse(kWindow);
  json["ranks"]["blocked_ns"] = {500, 400};
  RecordedRun run;
  run.manifest.world = 2;
  run.manifest.node_of_rank = {0, 1};
  run.windows = {ParseRecordedWindow(json.dump(), "window")};
  const TrafficFigures some = FiguresOfWindows(run, {.layer = 2, .lane = -1, .operation = ""});
  EXPECT_DOUBLE_EQ(some.ranks[0].waits.blocked, 30);
  EXPECT_DOUBLE_EQ(some.ranks[0].other_blocked, 20);
  EXPECT_DOUBLE_EQ(some.ranks[0].Compute(), 50);
}

// Two of the ten steps were split, and in them ranks were blocked twice as long as in the mean step.
TEST(WindowFigures, SplitStepsStandForAll) {
  nlohmann::json json = nlohmann::json::parse(kWindow);
  json["split_steps"] = 2;
  nlohmann::json& ranks = json["ranks"];
  ranks["split_blocked_ns"] = {120, 40};
  ranks["idle_ns"] = {80, 8};
  ranks["idle_receiver_ns"] = {0, 4};
  ranks["exposed_ns"] = {40, 28};
  RecordedRun run;
  run.manifest.world = 2;
  run.manifest.node_of_rank = {0, 1};
  run.windows = {ParseRecordedWindow(json.dump(), "window")};
  const TrafficFigures figures = FiguresOfWindows(run, {});
  for (const RankFigures& rank : figures.ranks)
    EXPECT_NEAR(rank.waits.blocked, rank.waits.Idle() + rank.waits.exposed, 1e-9);
  EXPECT_EQ(figures.ranks[0].waits.idle, 20);
  EXPECT_EQ(figures.ranks[1].waits.idle_receiver, 1);
}

TEST(RecordedWindow, SaysWhatIsWrong) {
  for (const char* wrong : {"", "[]", "{}", "{\"first_step\": 0}", "{\"first_step\": \"a\"}"})
    EXPECT_THROW(ParseRecordedWindow(wrong, "window"), UserError) << wrong;
  nlohmann::json json = nlohmann::json::parse(kWindow);
  json["ranks"]["idle_ns"] = {1, 2, 3};
  EXPECT_THROW(ParseRecordedWindow(json.dump(), "window"), UserError);
}

TEST(Quantile, LiesBetweenNeighbours) {
  EXPECT_EQ(Quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(Quantile({0, 10}, 0.25), 2.5);
  EXPECT_FALSE(IsKnown(Quantile({}, 0.5)));
}

// What exchanges of device memory waited for is told by the device's clock, not by when the host gave them.
TEST(TrafficFigures, OfDeviceMemoryAreTheDevices) {
  const auto waits = [](bool on_device) {
    ExampleRun run(4, "device");
    Planted plan;
    plan.compute_us[1] = 150;
    AddPlanted(run, plan);
    run.on_device_ = on_device;
    run.Write();
    const TrafficReport report = MakeTrafficReport(run.path(), {});
    EXPECT_TRUE(report.figures.is_split);
    return report.figures.MeanWaits();
  };
  const WaitFigures host = waits(false), device = waits(true);
  EXPECT_GT(host.idle, 0);
  EXPECT_NEAR(device.blocked, host.blocked, 1);
  EXPECT_NEAR(device.idle, host.idle, 1);
  EXPECT_NEAR(device.idle_receiver, host.idle_receiver, 1);
  EXPECT_NEAR(device.exposed, host.exposed, 1);
}

}  // namespace
}  // namespace unipool
