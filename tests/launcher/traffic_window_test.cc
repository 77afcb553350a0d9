#include "launcher/traffic/traffic_window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace unipool {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

class FakeCommunicator : public Communicator {
 public:
  FakeCommunicator(int rank, int size) : Communicator(rank, size) {}
  Ticket Start(std::span<const SendBlock>, std::span<const RecvBlock>, const ExchangeLabel&) override {
    return 0;
  }
  void Wait(Ticket) override {}
  std::unique_ptr<Communicator> Split(int, int) override { return nullptr; }
  [[noreturn]] void Abort(int, const std::string&) override { std::abort(); }
};

// Rank r adds one exchange of layer 1 in the forward lane: 10 * (r + 1) bytes to each other rank, blocked for
// r + 1 ms of which half is owed to rank 0.
std::string ShareOf(int rank, int world, bool is_split, const std::string& problem = "") {
  TrafficRecorder recorder({.rank = rank,
                            .node_of_rank = std::vector<int>(world),
                            .carrier = "threads",
                            .board = nullptr,
                            .clock = {}});
  recorder.SetSizes({.layers = 2, .slots_per_time = 2, .num_slots = 4});
  FakeCommunicator carrier(rank, world);
  const auto recorded = recorder.RecordWorld(carrier, "pool");
  TrafficTally& tally = recorder.tally();
  const int operation = tally.IndexOf(0, "dispatch forward");
  const int64_t bytes = 10 * (rank + 1);
  for (int p = 0; p < world; ++p) tally.AddBytesTo(operation, p, p == rank ? 1000 : bytes);
  tally.Add(operation, 0, 1,
            {.bytes_intra = bytes * (world - 1),
             .bytes_inter = 0,
             .bytes_self = 1000,
             .bytes_received = 7,
             .start_ns = 5,
             .blocked_ns = 1'000'000 * (rank + 1),
             .idle_ns = 500'000 * (rank + 1),
             .sender = 0,
             .is_split = is_split});
  return PackWindow(recorder,
                    {.step_ns = 9'000'000, .cpu = {.cpu_ns = 5'000'000, .queued_ns = -1, .pushed_off = 7}},
                    problem);
}

std::vector<std::string> Shares(int world, bool is_split) {
  std::vector<std::string> shares;
  for (int r = 0; r < world; ++r) shares.push_back(ShareOf(r, world, is_split, r == 2 ? "disk full" : ""));
  return shares;
}

TEST(TrafficWindow, HasWhatEachRankAdded) {
  const WindowText text =
      MakeWindow({.first = 5, .last = 9}, {0, 0, 0}, Shares(3, true), {.receive_imbalance = 1.25});
  EXPECT_EQ(text.dropped, 0);
  EXPECT_EQ(text.problems, "rank 2: disk full");
  const Json json = Json::parse(text.json);
  EXPECT_EQ(json["unipool_traffic"], kTrafficFormat);
  EXPECT_EQ(json["first_step"], 5);
  EXPECT_EQ(json["last_step"], 9);
  EXPECT_EQ(json["steps"], 5);
  EXPECT_EQ(json["split_steps"], 5);
  EXPECT_EQ(json["ranks"]["step_ns"], Json({9'000'000, 9'000'000, 9'000'000}));
  EXPECT_EQ(json["ranks"]["cpu_ns"], Json({5'000'000, 5'000'000, 5'000'000}));
  EXPECT_EQ(json["ranks"]["queued_ns"], Json({nullptr, nullptr, nullptr}));
  EXPECT_EQ(json["ranks"]["pushed_off"], Json({7, 7, 7}));
  EXPECT_EQ(json["ranks"]["blocked_ns"], Json({1'000'000, 2'000'000, 3'000'000}));
  EXPECT_EQ(json["ranks"]["idle_ns"], Json({500'000, 1'000'000, 1'500'000}));
  EXPECT_EQ(json["ranks"]["exposed_ns"], Json({500'000, 1'000'000, 1'500'000}));
  EXPECT_EQ(json["ranks"]["hidden_ns"], Json({nullptr, nullptr, nullptr}));
  EXPECT_EQ(json["ranks"]["wire_bytes"], Json({20, 40, 60}));
  EXPECT_EQ(json["ranks"]["self_bytes"], Json({1000, 1000, 1000}));
  EXPECT_EQ(json["ranks"]["received_bytes"], Json({7, 7, 7}));
  EXPECT_EQ(json["ranks"]["start_ns"], Json({5, 5, 5}));
  ASSERT_EQ(json["cells"].size(), 1u);
  const Json& cell = json["cells"][0];
  EXPECT_EQ(cell["communicator"], "pool");
  EXPECT_EQ(cell["operation"], "dispatch forward");
  EXPECT_EQ(cell["lane"], 0);
  EXPECT_EQ(cell["layer"], 1);
  EXPECT_EQ(cell["by"], "rank");
  EXPECT_EQ(cell["count"], Json({1, 1, 1}));
  EXPECT_EQ(cell["bytes_intra"], Json({20, 40, 60}));
  ASSERT_EQ(json["matrices"].size(), 1u);
  EXPECT_EQ(json["matrices"][0]["bytes"], Json({{1000, 10, 10}, {20, 1000, 20}, {30, 30, 1000}}));
  EXPECT_EQ(json["idle_matrix"]["ns"], Json({{500'000, 0, 0}, {1'000'000, 0, 0}, {1'500'000, 0, 0}}));
  EXPECT_EQ(json["imbalance"]["mean"], 1.25);
  EXPECT_TRUE(json["imbalance"]["p95"].is_null());
}

TEST(TrafficWindow, WhatIsNotKnownIsNull) {
  const Json json = Json::parse(MakeWindow({.first = 0, .last = 0}, {0, 0}, Shares(2, false), {}).json);
  EXPECT_EQ(json["split_steps"], 0);
  EXPECT_EQ(json["ranks"]["idle_ns"], Json({nullptr, nullptr}));
  EXPECT_EQ(json["ranks"]["blocked_ns"], Json({1'000'000, 2'000'000}));
}

TEST(TrafficWindow, ManyRanksAreAddedUp) {
  const int world = kMostRanksInMatrices + 4;
  std::vector<int> nodes;
  for (int r = 0; r < world; ++r) nodes.push_back(r / (world / 2));
  const Json json = Json::parse(MakeWindow({.first = 0, .last = 0}, nodes, Shares(world, true), {}).json);
  EXPECT_EQ(json["cells"][0]["by"], "largest");
  EXPECT_EQ(json["cells"][0]["blocked_ns"],
            Json({int64_t{500'000} * world * (world + 1), 1'000'000 * world, world - 1}));
  EXPECT_EQ(json["matrices"][0]["by"], "node");
  EXPECT_EQ(json["matrices"][0]["bytes"].size(), 2u);
  EXPECT_EQ(json["ranks"]["blocked_ns"].size(), static_cast<size_t>(world));
}

}  // namespace
}  // namespace unipool
