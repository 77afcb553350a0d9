// The file that tells that a run gets on.
#include "launcher/run_control/heartbeat.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace unipool {
namespace {

namespace fs = std::filesystem;

TEST(Heartbeat, SaysStepTimeAndRateAtMostOnceASecond) {
  const std::string dir = testing::TempDir() + "heartbeat";
  fs::remove_all(dir);
  fs::create_directories(dir);
  EXPECT_EQ(HeartbeatText(dir), "");
  Heartbeat heartbeat(dir);
  heartbeat.Beat(7, 51200.5);
  const std::string first = HeartbeatText(dir);
  EXPECT_EQ(first.size(), 160u);
  const nlohmann::json json = nlohmann::json::parse(first);
  EXPECT_EQ(json["step"], 7);
  EXPECT_NEAR(json["tokens_per_second"].get<double>(), 51200.5, 0.5);
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(json["time"].get<double>(), now, 5);
  heartbeat.Beat(8, 1);
  EXPECT_EQ(HeartbeatText(dir), first) << "too soon";
  usleep(1'050'000);
  heartbeat.Beat(9, 1);
  EXPECT_EQ(nlohmann::json::parse(HeartbeatText(dir))["step"], 9);
  fs::remove_all(dir);
}

TEST(Heartbeat, IsReadBackUnlessItIsDamaged) {
  const std::string dir = testing::TempDir() + "heartbeat_read";
  fs::remove_all(dir);
  EXPECT_FALSE(ReadHeartbeat(dir));
  fs::create_directories(dir);
  Heartbeat(dir).Beat(12, 5);
  const std::optional<HeartbeatView> view = ReadHeartbeat(dir);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->step, 12);
  EXPECT_EQ(view->tokens_per_second, 5);
  EXPECT_GT(view->time, 1e9);
  for (const char* damaged :
       {"", "{\"step\": 1", "[]", "{\"step\": \"a\", \"time\": 3, \"tokens_per_second\": 1}"}) {
    std::ofstream(dir + "/heartbeat") << damaged;
    EXPECT_FALSE(ReadHeartbeat(dir)) << damaged;
  }
  fs::remove_all(dir);
}

TEST(Heartbeat, WithoutAFolderThereIsNone) {
  Heartbeat heartbeat("/no/such/folder");
  heartbeat.Beat(1, 1);
  EXPECT_EQ(HeartbeatText("/no/such/folder"), "");
}

}  // namespace
}  // namespace unipool
