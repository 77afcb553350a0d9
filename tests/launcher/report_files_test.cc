// The files that a report writes for other programs.
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "launcher/traffic_report/exchange_lines.h"
#include "launcher/traffic_report/matrix_file.h"
#include "launcher/traffic_report/trace_file.h"
#include "runtime/errors.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

TEST(MatrixFile, IsWhatNcclTestsReads) {
  const Matrix bytes = {{1000, 33, 0}, {16, 1000, 64}, {5, 7, 1000}};
  EXPECT_EQ(MatrixText(bytes), "0 33 0\n16 0 64\n5 7 0\n");
  // 33 becomes 48, 5 and 7 become 16: the largest sum is 16 + 64 of row 1.
  EXPECT_EQ(ReplayCommand(bytes, "a b.txt"),
            "NCCL_TESTS_ALLTOALLV_MATRIX_FILE='a b.txt' mpirun -np 3 -x NCCL_TESTS_ALLTOALLV_MATRIX_FILE "
            "build/alltoallv_perf -g 1 -b 80 -e 80");
}

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() : run_(4, "files") {
    Planted plan{.layers = 3, .steps = 3};
    plan.compute_us[1] = 150;
    AddPlanted(run_, plan);
    run_.Write();
  }
  ExampleRun run_;
};

TEST_F(FilesTest, TraceIsBalancedAndItsArrowsArrive) {
  const TrafficReport report = MakeTrafficReport(run_.path(), {});
  const int64_t step = MedianStep(report);
  const Json trace = Json::parse(TraceText(report, {step}));
  std::map<std::string, int> begun, arrows;
  std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> slices;
  std::set<int> processes;
  for (const Json& event : trace.at("traceEvents")) {
    const std::string kind = event.at("ph");
    processes.insert(event.at("pid").get<int>());
    if (kind == "b") ++begun[event.at("id")];
    if (kind == "e") --begun[event.at("id")];
    if (kind == "s") ++arrows[event.at("id")];
    if (kind == "f") --arrows[event.at("id")];
    if (kind != "X") continue;
    EXPECT_EQ(event.at("args").at("step"), step);
    slices[{event.at("pid"), event.at("tid")}].emplace_back(event.at("ts"), event.at("dur"));
  }
  EXPECT_EQ(processes, (std::set<int>{0, 1, 2, 3}));
  EXPECT_EQ(begun.size(), 4u * 6u);
  for (const auto& [id, open] : begun) EXPECT_EQ(open, 0) << id;
  EXPECT_GE(arrows.size(), 3u * 6u);
  for (const auto& [id, open] : arrows) EXPECT_EQ(open, 0) << id;
  // Slices of a track do not overlap. Times are microseconds with three digits.
  for (auto& [track, list] : slices) {
    std::sort(list.begin(), list.end());
    for (size_t i = 1; i < list.size(); ++i)
      EXPECT_LE(list[i - 1].first + list[i - 1].second, list[i].first + 2e-3);
  }
}

TEST_F(FilesTest, TraceTellsWhatItCannotShow) {
  const TrafficReport report = MakeTrafficReport(run_.path(), {});
  EXPECT_THROW(TraceText(report, {77}), UserError);
  ExampleRun large(2, "large");
  Planted plan{.world = 2, .layers = 6000, .steps = 2};
  AddPlanted(large, plan);
  large.Write();
  try {
    TraceText(MakeTrafficReport(large.path(), {}), {0, 1});
    FAIL() << "a trace of that size";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("200000 events"));
  }
}

TEST_F(FilesTest, LinesHaveEveryExchange) {
  const TrafficReport report = MakeTrafficReport(run_.path(), {.steps = {.first = 1, .last = 2}});
  int64_t count = 0, sent = 0, received = 0;
  WriteExchangeLines(report, [&](const std::string& text) {
    const Json line = Json::parse(text);
    ++count;
    EXPECT_EQ(text.back(), '\n');
    EXPECT_EQ(line.at("blocked_ns").get<int64_t>(), line.at("idle_ns").get<int64_t>() +
                                                        line.at("idle_receiver_ns").get<int64_t>() +
                                                        line.at("exposed_ns").get<int64_t>());
    EXPECT_GE(line.at("start_ns").get<int64_t>(), 0);
    for (const Json& pair : line.at("to")) sent += pair.at(1).get<int64_t>();
    for (const Json& pair : line.at("from")) received += pair.at(1).get<int64_t>();
  });
  EXPECT_EQ(count, 2 * 6 * 4);
  EXPECT_GT(sent, 0);
  EXPECT_EQ(sent, received);
}

}  // namespace
}  // namespace unipool
