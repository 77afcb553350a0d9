// The opening and the closing lines of a run.
#include "launcher/reports/run_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/bf16_products.h"
#include "launcher/config.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Config Demo(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), "data.train=/no/such/book.txt");
  return LoadConfig(UNIPOOL_SOURCE_DIR "/configs/demo.txtpb", overrides);
}

std::string Opening(const Config& config) {
  std::string text;
  RunWorld({.num_threads = config.parallel().ranks()}, [&](World& world) {
    if (world.rank() == 0) text = OpeningText(config, world, 1'000'000);
  });
  return text;
}

TEST(RunWords, OpeningSaysModelDeviceDataAndLayout) {
  const std::string text =
      Opening(Demo({"moe.experts=32", "train.steps=400", "train.global_batch=48", "parallel.ranks=4"}));
  EXPECT_THAT(text, HasSubstr("model   3.5M parameters, 976.5K active: 6 layers share 32 experts, top 1\n"));
  EXPECT_THAT(text, HasSubstr("\ndevice  CPU, 4 ranks (threads of one process) on "));
  EXPECT_THAT(
      text,
      HasSubstr("\ndata    1.0M tokens of /no/such/book.txt; 400 steps x 6.1K = 2.5M tokens, 2.5 epochs\n"));
  EXPECT_THAT(text,
              HasSubstr("\nlayout  4 data ranks; 32 experts over 4 ranks; 3 microbatches of 4 x 128 tokens"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << "four lines";
}

TEST(RunWords, OpeningSaysOnceWhatMultipliesBf16) {
  const std::string text = Opening(Demo({"train.precision=BF16"}));
  EXPECT_THAT(text, HasSubstr("\nproducts of BF16 numbers: " + Bf16ProductsText() + "\ndata "));
}

TEST(RunWords, OpeningKnowsOtherModelsAndLayouts) {
  EXPECT_THAT(Opening(Demo({"moe.sharing=DENSE", "moe.balance=NONE", "moe.experts=6"})),
              HasSubstr("6 layers, no experts\n"));
  EXPECT_THAT(Opening(Demo({"moe.sharing=PRIVATE", "moe.experts=48", "parallel.ranks=1"})),
              AllOf(HasSubstr("6 layers with 8 experts each, top 1\n"), HasSubstr(", 1 rank on ")));
  EXPECT_THAT(Opening(Demo({"parallel.ranks=4", "parallel.stages=2", "parallel.pool_replicas=2"})),
              HasSubstr("layout  2 copies of the pool x 2 stages x 1 data rank; "));
  EXPECT_THAT(Opening(Demo({"data.train=0.7 a.txt,0.2 b.txt,0.1 c.txt"})),
              HasSubstr("tokens of a.txt and 2 more"));
}

TEST(RunWords, WarnsOnceOfTextThatIsADatasetInDisguise) {
  EXPECT_THAT(DataWarnings(Demo({})), ElementsAre());
  EXPECT_THAT(DataWarnings(Demo({"data.train=a.jsonl", "data.valid=a.jsonl"})),
              ElementsAre(HasSubstr("a.jsonl is read as plain bytes")));
}

TEST(RunWords, ClosingSaysWhatWasDoneAndWhatToTry) {
  const Config config = Demo({"train.steps=40", "run_dir=runs/a"});
  EXPECT_EQ(ClosingText(config, {}, 3, "unipool"), "");
  StartSummary summary{.first_step = 11,
                       .last_step = 40,
                       .tokens = 300'000,
                       .step_seconds = 20,
                       .first_loss = 5.5,
                       .last_loss = 2.25,
                       .validation = ValidationOutcome{.step = 40, .loss = 2.5}};
  EXPECT_EQ(ClosingText(config, summary, 90, "build/unipool"),
            "done    30 steps in 1m30s at 15.0K tokens/s; loss 5.5000 -> 2.2500, valid 2.5000\n"
            "next    build/unipool generate runs/a --prompt \"The \"");
  summary.last_step = 30;
  summary.validation.reset();
  EXPECT_EQ(ClosingText(config, summary, 90, "build/unipool"),
            "done    20 steps in 1m30s at 15.0K tokens/s; loss 5.5000 -> 2.2500");
}

}  // namespace
}  // namespace unipool
