// The lines and the bar that people see.
#include "launcher/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "tests/launcher/example_outcome.h"

namespace unipool {
namespace {

using testing::HasSubstr;
using testing::Not;

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
    for (int step = 1; step <= 3; ++step) progress.Step(ExampleOutcome(step));
    progress.Validation({.step = 3, .loss = 1.0});
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
        for (int step = 1; step <= 40; ++step) progress.Step(ExampleOutcome(step));
      });
  EXPECT_EQ(std::count(rare.begin(), rare.end(), '\n'), 2);  // the first and the last
  EXPECT_THAT(rare, HasSubstr("step 40/40"));
}

TEST(Progress, BarStaysOnOneLineOfATerminal) {
  const std::string text =
      Printed({.total_steps = 4, .terminal = true, .columns = 60}, [](Progress& progress) {
        for (int step = 1; step <= 2; ++step) progress.Step(ExampleOutcome(step));
        progress.Say("hello");
        progress.Step(ExampleOutcome(3));
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
          StepOutcome m = ExampleOutcome(step);
          m.report.load.zero_score_share = step < 20 ? 0.3 : 0.45;
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
    StepOutcome m = ExampleOutcome(1);
    m.report.load.shares_age = age;
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
      StepOutcome m = ExampleOutcome(1);
      m.report.load.zero_score_share = 0.5;
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

TEST(Progress, TellsTheLossOfEachSource) {
  EXPECT_THAT(
      Printed({.total_steps = 9},
              [](Progress& progress) {
                progress.Validation({.step = 3, .loss = 1.0, .by_source = {{"a b", 0.5}, {"c", 1.5}}});
              }),
      HasSubstr("step 3  validation loss 1.0000  perplexity 2.72  (a b 0.5000, c 1.5000)\n"));
}

TEST(Progress, SummarisesThePeakMemory) {
  EXPECT_EQ(MemoryText(ExampleOutcome(1).report.memory.bytes),
            "2.1 MB = weights 600.0 KB, gradients 700.0 KB, optimizer 800.0 KB");
}

}  // namespace
}  // namespace unipool
