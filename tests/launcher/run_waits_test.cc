#include "launcher/reports/run_waits.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/tensor_file.h"

namespace unipool {
namespace {

class RunWaitsTest : public ::testing::Test {
 protected:
  RunWaitsTest() : run_dir_(::testing::TempDir() + "run_waits_" + std::to_string(getpid())) {
    std::filesystem::create_directories(run_dir_);
  }
  ~RunWaitsTest() override { std::filesystem::remove_all(run_dir_); }
  std::string Text(const std::string& metrics) {
    WriteTextFile(run_dir_ + "/metrics.jsonl", metrics);
    const auto waits = ReadRunWaits(run_dir_);
    return waits ? RunWaitsText(*waits) : "nothing";
  }
  const std::string run_dir_;
};

constexpr const char* kBlocked = R"({"step":7,"step_seconds":0.5,"blocked_ms":60})";
constexpr const char* kSplit =
    R"({"step":4,"step_seconds":0.5,"blocked_ms":100,"idle_ms":70,"exposed_ms":30,"waited_for_rank":1,"waited_for_share":0.9})";

TEST_F(RunWaitsTest, TellsTheNewestStepThatKnowsWhatFor) {
  EXPECT_EQ(Text(std::string(kSplit) + "\n" + kBlocked + "\n"),
            "20 % of step 4: 70.0 ms for late ranks (90 % for rank 1, whatever made it late), 30.0 ms for "
            "the wire");
  EXPECT_EQ(Text(std::string(kBlocked) + "\n"), "12 % of step 7: 60.0 ms");
}

TEST_F(RunWaitsTest, TakesNoTornOrOtherLine) {
  EXPECT_EQ(Text(""), "nothing");
  EXPECT_EQ(Text("{\"step\":1,\"step_seconds\":0.5}\n"), "nothing");
  EXPECT_EQ(Text(std::string("\n\nno json\n[1]\n") + kBlocked + "\n" + std::string(kSplit).substr(0, 40)),
            "12 % of step 7: 60.0 ms");
  EXPECT_EQ(Text(std::string(kBlocked) + "\n{\"valid_loss\":1,\"step\":7}\n"), "12 % of step 7: 60.0 ms");
  EXPECT_EQ(Text(kBlocked), "nothing") << "the line is not whole";
}

TEST_F(RunWaitsTest, NeedsAFile) {
  std::filesystem::remove(run_dir_ + "/metrics.jsonl");
  EXPECT_FALSE(ReadRunWaits(run_dir_));
}

TEST_F(RunWaitsTest, JsonHasWhatIsKnown) {
  WriteTextFile(run_dir_ + "/metrics.jsonl", std::string(kBlocked) + "\n");
  const nlohmann::json json = RunWaitsJson(*ReadRunWaits(run_dir_));
  EXPECT_EQ(json, nlohmann::json({{"step", 7}, {"step_ms", 500.0}, {"blocked_ms", 60.0}}));
}

}  // namespace
}  // namespace unipool
