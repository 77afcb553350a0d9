// The lines and the bar that people see.
#include "launcher/reports/progress.h"

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
  const std::string every = Printed({.total_steps = 40, .every_step = true}, [](Progress& progress) {
    for (int step = 1; step <= 3; ++step) progress.Step(ExampleOutcome(step));
    progress.Validation({.step = 3, .loss = 1.0});
  });
  const std::string rest =
      "  12.3K tokens/s  pool loss 1.280 x balance  ties 19 %  grad norm 0.500  lr 3.00e-04  shares 1 step "
      "old\n";
  EXPECT_EQ(every, "step 1/40  loss 2.5000  ETA 1m18s" + rest + "step 2/40  loss 2.5000  ETA 1m16s" + rest +
                       "step 3/40  loss 2.5000  ETA 1m14s" + rest +
                       "step 3  validation loss 1.0000  perplexity 2.72\n");
  const std::string rare = Printed({.total_steps = 40}, [](Progress& progress) {
    for (int step = 1; step <= 40; ++step) progress.Step(ExampleOutcome(step));
  });
  EXPECT_EQ(std::count(rare.begin(), rare.end(), '\n'), 2);  // the first and the last
  EXPECT_THAT(rare, HasSubstr("step 40/40"));
}

TEST(Progress, PlainLinesAreRareButNeverLongSilent) {
  EXPECT_FALSE(PlainLineIsDue(9, 1.5));
  EXPECT_FALSE(PlainLineIsDue(500, 0.9));
  EXPECT_TRUE(PlainLineIsDue(10, 1));
  EXPECT_FALSE(PlainLineIsDue(1, 2.9));
  EXPECT_TRUE(PlainLineIsDue(1, 3));
}

TEST(Progress, LiveLineSaysFirstWhatOneWants) {
  const ProgressOptions options{.total_steps = 60000};
  StepOutcome outcome = ExampleOutcome(45000);
  outcome.report.loss = 12.3456;
  auto line = [&](int columns) { return LiveLine(outcome, options, 40 * 86400, columns); };
  EXPECT_EQ(line(80), "step 45000/60000  loss 12.3456  ETA 40d00h  12.3K tokens/s  [############.....]");
  EXPECT_EQ(line(200),
            "step 45000/60000  loss 12.3456  ETA 40d00h  12.3K tokens/s  pool loss 1.280 x balance  "
            "ties 19 %  grad norm 0.500  lr 3.00e-04  shares 1 step old  [##################......]");
  EXPECT_EQ(line(50), "step 45000/60000  loss 12.3456  ETA 40d00h");
  EXPECT_EQ(line(5), "step 45000");
  for (int columns = 20; columns < 250; ++columns) {
    EXPECT_LT(static_cast<int>(line(columns).size()), columns);
    EXPECT_THAT(line(columns), testing::StartsWith("step 45000/60000"));
  }
}

TEST(Progress, LiveLineStaysOnOneLineOfATerminal) {
  const std::string text =
      Printed({.total_steps = 4, .columns = 80, .live_seconds = 0}, [](Progress& progress) {
        for (int step = 1; step <= 2; ++step) progress.Step(ExampleOutcome(step));
        progress.Say("hello");
        progress.Step(ExampleOutcome(3));
      });
  EXPECT_THAT(text, HasSubstr("\rstep 1/4  loss 2.5000  ETA 6s  12.3K tokens/s  [#####"));
  EXPECT_THAT(text, HasSubstr("]\033[K\rstep 2/4  loss"));
  EXPECT_THAT(text, HasSubstr("\r\033[Khello\n\rstep 3/4  "));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);  // hello, and the end
  // Quick steps do not all reach the terminal.
  const std::string quick =
      Printed({.total_steps = 900, .columns = 80, .live_seconds = 100}, [](Progress& progress) {
        for (int step = 1; step <= 900; ++step) progress.Step(ExampleOutcome(step));
      });
  EXPECT_EQ(std::count(quick.begin(), quick.end(), '\r'), 2);
}

TEST(Progress, SumsUpItsStart) {
  Printed({.total_steps = 4}, [](Progress& progress) {
    EXPECT_EQ(progress.summary().first_step, 0);
    for (int step = 2; step <= 4; ++step) {
      StepOutcome outcome = ExampleOutcome(step);
      outcome.report.loss = 10 - step;
      progress.Step(outcome);
    }
    progress.Validation({.step = 4, .loss = 1.25});
    const StartSummary& summary = progress.summary();
    EXPECT_EQ(summary.first_step, 2);
    EXPECT_EQ(summary.last_step, 4);
    EXPECT_EQ(summary.first_loss, 8);
    EXPECT_EQ(summary.last_loss, 6);
    EXPECT_EQ(summary.tokens, 3 * 24690);
    EXPECT_EQ(summary.step_seconds, 6);
    EXPECT_EQ(summary.validation->loss, 1.25);
  });
}

TEST(Progress, WarnsAboutZeroScoresNowAndThen) {
  const std::string text = Printed({.total_steps = 1000}, [](Progress& progress) {
    for (int step = 1; step <= 250; ++step) {
      StepOutcome m = ExampleOutcome(step);
      m.report.load.zero_score_share = step < 20 ? 0.2 : 0.45;
      m.report.load.tie_share = 0.6;
      progress.Step(m);
    }
  });
  for (int step : {20, 120, 220}) {
    EXPECT_THAT(text, HasSubstr("warning: step " + std::to_string(step) + ": 45 % of all tokens and layers"));
    EXPECT_THAT(text, HasSubstr("no positive router score (60 % of all choices)"));
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
  EXPECT_THAT(summary({.balance = Balance::LAYER_LOSS}, -1),
              HasSubstr("tokens/s  layer loss 1.280 x balance  ties 19 %  grad"));
  EXPECT_THAT(summary({.balance_scope = BalanceScope::MICROBATCH}, 1),
              HasSubstr("  shares 1 microbatch old"));
  EXPECT_THAT(summary({.balance_scope = BalanceScope::RANK}, 2), HasSubstr("  shares 2 microbatches old"));
  EXPECT_THAT(summary({.balance_scope = BalanceScope::STEP}, 3), HasSubstr("  shares 3 steps old"));

  auto warning = [](Balance::Value balance) {
    return Printed({.total_steps = 9, .balance = balance}, [](Progress& progress) {
      StepOutcome m = ExampleOutcome(1);
      m.report.load.zero_score_share = 0.5;
      progress.Step(m);
    });
  };
  EXPECT_THAT(warning(Balance::LAYER_LOSS),
              AllOf(HasSubstr("a low layer loss"), HasSubstr("Lower moe.balance_coeff")));
  EXPECT_THAT(warning(Balance::POOL_LOSS), HasSubstr("counts their choices as use (moe.balance_counts ALL)"));
  EXPECT_THAT(warning(Balance::BIAS), HasSubstr("moe.balance_counts=POSITIVE"));
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
