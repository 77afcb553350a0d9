// Sizes that cannot be are refused with need and have, before anything overflows.
#include "launcher/size_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

std::vector<std::string> Check(const std::vector<std::string>& overrides, int world_size = 1) {
  return ImpossibleSizes(ParseConfig("", "empty", overrides), world_size);
}

TEST(SizeCheck, EachSizeAloneNamesItsFieldNeedAndHave) {
  for (const std::string field :
       {"model.layers", "model.hidden", "model.heads", "model.kv_heads", "model.seq_length", "model.vocab",
        "model.vocab_multiple", "moe.experts", "moe.width", "train.micro_batch", "parallel.ranks",
        "parallel.stages", "parallel.pool_replicas"}) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<std::string> problems = Check({field + "=2147483647"});
    ASSERT_THAT(problems, SizeIs(1)) << field;
    EXPECT_THAT(problems[0], testing::StartsWith(field + ": is 2147483647; must be at most "));
    EXPECT_THAT(problems[0], HasSubstr("; these settings need "));
    EXPECT_THAT(problems[0], HasSubstr(" of memory; there are "));
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  }
}

TEST(SizeCheck, Products) {
  EXPECT_THAT(Check({"model.hidden=1048576", "moe.width=1048576", "moe.experts=131072"}),
              ElementsAre(HasSubstr("the model: is too large to be counted; these settings need 6.9")));
  EXPECT_THAT(Check({"train.micro_batch=16777216", "model.seq_length=1024"}),
              ElementsAre(HasSubstr("rows of a")));
  EXPECT_THAT(Check({"train.global_batch=2147483640", "train.micro_batch=8"}),
              ElementsAre(HasSubstr("microbatches of a step")));
  EXPECT_THAT(Check({"model.layers=16384", "moe.experts=131072"}),
              ElementsAre(HasSubstr("model.layers x moe.e")));
  EXPECT_THAT(
      Check({"train.head_tokens=41944", "model.vocab=51200"}),
      ElementsAre(HasSubstr("train.head_tokens x model.vocab, logits at once: is 2147532800; must be")));
  EXPECT_THAT(Check({"train.head_tokens=41943", "model.vocab=51200"}), ElementsAre());
  EXPECT_THAT(Check({"train.steps=9223372036854775807"}), ElementsAre(HasSubstr("tokens of the run")));
}

TEST(SizeCheck, LargeButPossible) {
  EXPECT_THAT(
      Check({"model.hidden=16384", "model.layers=128", "model.vocab=262144", "moe.experts=4096",
             "moe.width=8192", "train.global_batch=4096", "parallel.ranks=1024", "train.steps=1000000"},
            1024),
      ElementsAre());
}

TEST(SizeCheck, NegativeSizesAreLeftToOthers) {
  EXPECT_THAT(Check({"model.layers=-1", "moe.experts=-5", "train.micro_batch=0", "parallel.stages=0"}),
              ElementsAre());
}

TEST(SizeCheck, CostsAreLargestFirst) {
  const std::vector<SizeCost> costs = EstimateCosts(ParseConfig("", "empty", {"moe.experts=4096"}), 1);
  EXPECT_EQ(costs[0].settings, "moe.experts x moe.width x model.hidden");
  EXPECT_EQ(costs[0].bytes, 16.0 * 3 * 4096 * 1024 * 256);
  EXPECT_THAT(CostText(costs, 2e10), testing::StartsWith("need 20.0 GB (most for moe.experts x moe.width"));
}

}  // namespace
}  // namespace unipool
