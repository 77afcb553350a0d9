// metrics.jsonl and the lines for people.
#include "launcher/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "launcher/progress.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::json;

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

StepMetrics Example(int64_t step) {
  StepMetrics m;
  m.step = step;
  m.tokens = step * 4096;
  m.loss = 2.5;
  m.pool_loss = 0.16;
  m.pool_loss_at_balance = 0.125;
  m.max_violation = 1.5;
  m.dead_experts = 3;
  m.zero_score_share = 0.125;
  m.grad_norm = 0.5;
  m.lr = 3e-4;
  m.tokens_per_second = 12345;
  m.step_seconds = 2;
  m.pool_shares_age = 1;
  m.balance_seconds = 0.25;
  m.peak_memory_bytes = 2'100'000;
  m.peak_memory_rank = 3;
  m.peak_memory_by_kind = {600'000, 700'000, 800'000, 0, 0, 0};
  return m;
}

std::string FreshRun() {
  const fs::path path = fs::path(testing::TempDir()) / ("metrics_" + std::to_string(getpid()));
  fs::remove_all(path);
  return path.string();
}

TEST(Metrics, LineHasTheKeysThatScriptsRelyOn) {
  EXPECT_EQ(
      StepLine(Example(2)),
      "{\"step\":2,\"tokens\":8192,\"loss\":2.5,\"pool_loss\":0.16,\"pool_loss_over_balance\":1.28,"
      "\"max_violation\":1.5,"
      "\"dead_experts\":3,\"zero_score_share\":0.125,\"grad_norm\":0.5,\"lr\":0.0003,\"tokens_per_"
      "second\":12345.0,"
      "\"step_seconds\":2.0,\"pool_shares_age\":1,\"balance_seconds\":0.25,\"peak_memory_bytes\":2100000,"
      "\"peak_memory_rank\":3,\"peak_memory\":{\"weights\":600000,\"gradients\":700000,\"optimizer\":800000,"
      "\"activations\":0,\"exchange\":0,\"scratch\":0}}");
  StepMetrics several = Example(2);
  several.slot_imbalance = 1.25;
  EXPECT_EQ(Json::parse(StepLine(several))["slot_imbalance"], 1.25);
  EXPECT_FALSE(Json::parse(StepLine(Example(2))).contains("slot_imbalance"));
  const Json valid = Json::parse(ValidationLine(7, 1.5));
  EXPECT_EQ(valid["step"], 7);
  EXPECT_EQ(valid["valid_loss"], 1.5);
  EXPECT_EQ(valid["valid_perplexity"], std::exp(1.5));
}

TEST(Metrics, NumbersReadBackBitForBit) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    StepMetrics m = Example(1);
    m.loss = std::ldexp(std::uniform_real_distribution<double>(-1, 1)(random),
                        static_cast<int>(random() % 80) - 40);
    EXPECT_EQ(Json::parse(StepLine(m))["loss"].get<double>(), m.loss);
  }
  StepMetrics m = Example(1);
  m.loss = std::nan("");
  m.pool_loss_at_balance = 0;
  EXPECT_TRUE(Json::parse(StepLine(m))["loss"].is_null());
  EXPECT_TRUE(Json::parse(StepLine(m))["pool_loss_over_balance"].is_null());
}

TEST(Metrics, ResumedRunHasEveryStepOnce) {
  const std::string run = FreshRun(), path = run + "/metrics.jsonl";
  std::string first_three;
  {
    MetricsFile file(run, 0);
    EXPECT_EQ(file.path(), path);
    for (int step = 1; step <= 5; ++step) {
      file.Write(StepLine(Example(step)));
      if (step % 3 == 0) file.Write(ValidationLine(step, 1));
      if (step == 3) first_three = ReadAll(path);
      file.Write(ValidationLine(step + 1, 1));  // of a step after the checkpoint's
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
  fs::remove_all(run);
}

TEST(Metrics, TornAndStrangeLinesAreCut) {
  const std::string run = FreshRun(), path = run + "/metrics.jsonl";
  fs::create_directories(run);
  const std::string one = StepLine(Example(1)), two = StepLine(Example(2));
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

TEST(Metrics, FullDiskAndBadFolderAreSentences) {
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
  EXPECT_EQ(problem, run + "/metrics.jsonl: cannot be written (File too large)");
  fs::remove_all(run);
  std::ofstream(run) << "a file";
  EXPECT_THROW(MetricsFile(run, 0), UserError);
  fs::remove(run);
}

// What a Progress prints.
std::string Printed(ProgressOptions options, const std::function<void(Progress&)>& body) {
  char* text = nullptr;
  size_t size = 0;
  std::FILE* out = open_memstream(&text, &size);
  {
    Progress progress(out, options);
    body(progress);
  }
  std::fclose(out);
  const std::string printed(text, size);
  std::free(text);
  return printed;
}

TEST(Progress, PlainLinesWithTheTimeLeft) {
  const std::string every = Printed({.total_steps = 40, .seconds_between_lines = 0}, [](Progress& progress) {
    for (int step = 1; step <= 3; ++step) progress.Step(Example(step));
    progress.Validation(3, 1.0);
  });
  EXPECT_EQ(every,
            "step 1/40  loss 2.5000  pool loss 1.280 x balance (shares 1 step old)  12.3K tokens/s  grad "
            "norm 0.500  "
            "ETA 1m18s  lr 3.00e-04\n"
            "step 2/40  loss 2.5000  pool loss 1.280 x balance (shares 1 step old)  12.3K tokens/s  grad "
            "norm 0.500  "
            "ETA 1m16s  lr 3.00e-04\n"
            "step 3/40  loss 2.5000  pool loss 1.280 x balance (shares 1 step old)  12.3K tokens/s  grad "
            "norm 0.500  "
            "ETA 1m14s  lr 3.00e-04\n"
            "step 3  validation loss 1.0000  perplexity 2.72\n");
  const std::string rare =
      Printed({.total_steps = 40, .seconds_between_lines = 3600}, [](Progress& progress) {
        for (int step = 1; step <= 40; ++step) progress.Step(Example(step));
      });
  EXPECT_EQ(std::count(rare.begin(), rare.end(), '\n'), 2);  // the first and the last
  EXPECT_THAT(rare, HasSubstr("step 40/40"));
}

TEST(Progress, BarStaysOnOneLineOfATerminal) {
  const std::string text =
      Printed({.total_steps = 4, .terminal = true, .columns = 60}, [](Progress& progress) {
        for (int step = 1; step <= 2; ++step) progress.Step(Example(step));
        progress.Say("hello");
        progress.Step(Example(3));
      });
  EXPECT_THAT(text, HasSubstr("\r[######..................] step 1/4"));
  EXPECT_THAT(text, HasSubstr("\r[############............] step 2/4"));
  EXPECT_THAT(text, HasSubstr("\r\033[Khello\n\r[##################......] step 3/4"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);  // hello, and the end
  EXPECT_THAT(text, Not(HasSubstr("lr ")));                  // cut at the terminal's width
}

TEST(Progress, WarnsAboutZeroScoresNowAndThen) {
  const std::string text =
      Printed({.total_steps = 1000, .seconds_between_lines = 1e9}, [](Progress& progress) {
        for (int step = 1; step <= 250; ++step) {
          StepMetrics m = Example(step);
          m.zero_score_share = step < 20 ? 0.3 : 0.45;
          progress.Step(m);
        }
      });
  for (int step : {20, 120, 220}) {
    EXPECT_THAT(text, HasSubstr("warning: step " + std::to_string(step) + ": 45 % of all tokens and layers"));
  }
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
  EXPECT_THAT(text, HasSubstr("Lower moe.balance_coeff or raise model.init_std"));
}

TEST(Progress, SaysWhichLossAndWhatHelps) {
  auto summary = [](ProgressOptions options, int64_t age) {
    StepMetrics m = Example(1);
    m.pool_shares_age = age;
    return StepSummary(m, options, 0);
  };
  EXPECT_THAT(summary({.balance = Balance::LAYER_LOSS}, -1), HasSubstr("layer loss 1.280 x balance  12.3K"));
  EXPECT_THAT(summary({.balance_scope = BalanceScope::MICROBATCH}, 1),
              HasSubstr("balance (shares 1 microbatch old)"));
  EXPECT_THAT(summary({.balance_scope = BalanceScope::RANK}, 2),
              HasSubstr("balance (shares 2 microbatches old)"));
  EXPECT_THAT(summary({.balance_scope = BalanceScope::STEP}, 3), HasSubstr("balance (shares 3 steps old)"));

  auto warning = [](Balance::Value balance) {
    return Printed({.total_steps = 9, .balance = balance}, [](Progress& progress) {
      StepMetrics m = Example(1);
      m.zero_score_share = 0.5;
      progress.Step(m);
    });
  };
  EXPECT_THAT(warning(Balance::LAYER_LOSS),
              AllOf(HasSubstr("a low layer loss"), HasSubstr("Lower moe.balance_coeff")));
  for (Balance::Value balance : {Balance::BIAS, Balance::NONE}) {
    EXPECT_THAT(warning(balance), AllOf(HasSubstr("Raise model.init_std"), Not(HasSubstr("balance_coeff")),
                                        Not(HasSubstr("low pool loss"))));
  }
}

TEST(Progress, SummarisesThePeakMemory) {
  EXPECT_EQ(MemoryText(Example(1).peak_memory_by_kind),
            "2.1 MB = weights 600.0 KB, gradients 700.0 KB, optimizer 800.0 KB");
}

TEST(Progress, FormatsDurations) {
  EXPECT_EQ(FormatDuration(0.4), "0s");
  EXPECT_EQ(FormatDuration(59.6), "1m00s");
  EXPECT_EQ(FormatDuration(7384), "2h03m");
  EXPECT_EQ(FormatDuration(90061), "1d01h");
}

}  // namespace
}  // namespace unipool
