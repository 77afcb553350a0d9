// metrics.jsonl: kept over a resumed run, whole lines, full disks.
#include "launcher/reports/metrics_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/errors.h"
#include "tests/launcher/example_outcome.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::string FreshRun() {
  const fs::path path = fs::path(testing::TempDir()) / ("metrics_file_" + std::to_string(getpid()));
  fs::remove_all(path);
  return path.string();
}

TEST(MetricsFile, ResumedRunHasEveryStepOnce) {
  const std::string run = FreshRun(), path = run + "/metrics.jsonl";
  std::string first_three;
  {
    MetricsFile file(run, 0);
    EXPECT_EQ(file.path(), path);
    for (int step = 1; step <= 5; ++step) {
      file.Write(StepLine(ExampleOutcome(step)));
      if (step % 3 == 0) file.Write(ValidationLine({.step = step, .loss = 1}));
      if (step == 3) first_three = ReadAll(path);
      file.Write(ValidationLine({.step = step + 1, .loss = 1}));  // of a step after the checkpoint's
      if (step == 3) first_three = ReadAll(path).substr(0, first_three.size());
    }
  }
  { MetricsFile file(run, 3); }
  std::vector<std::string> kept;
  std::istringstream lines(ReadAll(path));
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(Json::parse(line)["step"].get<int>(), 3);
    kept.push_back(line);
  }
  EXPECT_EQ(kept.size(), 3u + 1 + 2);  // steps 1..3, validations of 3, 2 and 3
  const std::string replaced = ReadAll(run + "/metrics.replaced.jsonl");
  // Steps 4 and 5, validations of 4, 5 and 6.
  EXPECT_EQ(std::count(replaced.begin(), replaced.end(), '\n'), 2 + 3);
  fs::remove_all(run);
}

TEST(MetricsFile, TornAndStrangeLinesAreCut) {
  const std::string run = FreshRun(), path = run + "/metrics.jsonl";
  fs::create_directories(run);
  const std::string one = StepLine(ExampleOutcome(1)), two = StepLine(ExampleOutcome(2));
  auto reopened = [&](const std::string& text) {
    std::ofstream(path) << text;
    MetricsFile file(run, 5);
    file.Write("{\"step\":6}");
    return ReadAll(path);
  };
  const std::string six = "{\"step\":6}\n";
  EXPECT_EQ(reopened(one + "\n" + two + "\n"), one + "\n" + two + "\n" + six);
  for (size_t cut = 1; cut < two.size(); cut += 11)
    EXPECT_EQ(reopened(one + "\n" + two.substr(0, cut)), one + "\n" + six) << cut;
  EXPECT_EQ(reopened(one + "\n" + two), one + "\n" + two + "\n" + six);  // only the newline is missing
  EXPECT_EQ(reopened(one + "\n\n[1]\n{\"step\":\"2\"}\n" + two + "\n"), one + "\n" + two + "\n" + six);
  EXPECT_EQ(reopened(""), six);
  fs::remove_all(run);
}

TEST(MetricsFile, FullDiskAndBadFolderAreSentences) {
  const std::string run = FreshRun();
  fs::create_directories(run);
  MetricsFile file(run, 0);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{5, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string problem;
  try {
    file.Write("{\"step\":1}");
  } catch (const UserError& error) {
    problem = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(problem,
            run + "/metrics.jsonl: cannot be written (File too large); make room and repeat the command");
  fs::remove_all(run);
  std::ofstream(run) << "a file";
  EXPECT_THROW(MetricsFile(run, 0), UserError);
  fs::remove(run);
}

}  // namespace
}  // namespace unipool
