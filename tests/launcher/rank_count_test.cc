// parallel.ranks beside a launcher's count.
#include "launcher/rank_count.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

struct Taken {
  int ranks;
  std::string note;
};

Taken Take(int launched, const std::string& file, const std::vector<std::string>& overrides) {
  Config config = ParseConfig(file, "file", overrides);
  const std::string note = TakeLaunchedRanks(launched, overrides, config);
  return {config.parallel().ranks(), note};
}

TEST(RankCount, LaunchersCountHoldsAndADifferenceIsSaid) {
  const Taken taken = Take(3, "parallel { ranks: 4 }", {"train.steps=7"});
  EXPECT_EQ(taken.ranks, 3);
  EXPECT_THAT(taken.note,
              AllOf(HasSubstr("3 ranks, as the launcher"), HasSubstr("parallel.ranks: 4 of the file")));
  EXPECT_THAT(Take(1, "parallel { ranks: 4 }", {}).note, HasSubstr("1 rank, as the launcher"));
}

TEST(RankCount, NothingIsSaidWhereNothingDiffers) {
  for (const char* file : {"", "parallel { ranks: 3 }"}) {
    const Taken taken = Take(3, file, {});
    EXPECT_EQ(taken.ranks, 3);
    EXPECT_EQ(taken.note, "");
  }
  EXPECT_EQ(Take(3, "parallel { ranks: 4 }", {"parallel.ranks=3"}).note, "");
  EXPECT_EQ(Take(3, "parallel { ranks: 4 }", {"parallel.ranks=5", " parallel.ranks = 3"}).ranks, 3);
}

TEST(RankCount, AnotherNumberOnTheCommandLineIsRefused) {
  for (const char* override_text : {"parallel.ranks=4", "parallel.ranks = 4", " parallel.ranks=4"}) {
    EXPECT_THAT([&] { Take(3, "", {override_text}); },
                ThrowsMessage<UserError>(AllOf(HasSubstr("the command line says 4"), HasSubstr("started 3"),
                                               HasSubstr("leave parallel.ranks out"))))
        << override_text;
  }
  EXPECT_THROW(Take(3, "parallel { ranks: 3 }", {"parallel.ranks=1"}), UserError);
  EXPECT_THROW(Take(3, "parallel { ranks: 3 }", {"parallel.ranks="}), UserError);  // no number
}

Taken TakeCores(int cores, const std::vector<std::string>& overrides) {
  Config config = ParseConfig("", "file", SpellOutAuto(overrides));
  const std::string note = TakeAllCores(cores, config);
  return {config.parallel().ranks(), note};
}

TEST(RankCount, AutoInAnyCaseAndNothingLikeIt) {
  EXPECT_THAT(SpellOutAuto({"parallel.ranks=Auto", "train.lr=auto", "parallel.ranks=auot",
                            "parallel.shadow_experts = auto"}),
              testing::ElementsAre("parallel.ranks=0", "train.lr=auto", "parallel.ranks=auot",
                                   "parallel.shadow_experts=-1"));
  for (const auto& [text, overrides] :
       {std::pair{"", std::vector<std::string>{"parallel.ranks=auot"}}, {"parallel { ranks: auto }", {}}}) {
    try {
      ParseConfig(text, "file", overrides);
      ADD_FAILURE() << text;
    } catch (const UserError& error) {
      EXPECT_THAT(
          error.what(),
          HasSubstr("did you mean auto? It is parallel.ranks=auto on the command line, and 0 in a file"));
    }
  }
  EXPECT_THROW(ParseConfig("", "file", {"parallel.ranks=many"}), UserError);
}

TEST(RankCount, AutoTakesAsManyCoresAsTheBatchAllows) {
  // 12 microbatches: 1, 2, 3, 4, 6 and 12 ranks divide them.
  const std::vector<std::string> demo = {"parallel.ranks=auto", "train.global_batch=48",
                                         "train.micro_batch=4", "data.train=book.txt"};
  const auto take = [&](int cores, const std::string& setting = "train.steps=5") {
    std::vector<std::string> overrides = demo;
    overrides.push_back(setting);
    return TakeCores(cores, overrides);
  };
  EXPECT_EQ(take(4).ranks, 4);
  EXPECT_EQ(take(4).note, "4 ranks on 4 cores");
  EXPECT_EQ(take(8).ranks, 6);
  EXPECT_EQ(take(8).note, "6 ranks on 8 cores; batch and layout allow no larger number");
  EXPECT_EQ(take(1).ranks, 1);
  EXPECT_EQ(take(11, "parallel.stages=4").ranks, 8) << "2 data ranks in each of 4 stages";
  EXPECT_EQ(take(2, "parallel.stages=4").ranks, 4) << "fewer cores than stages";
  EXPECT_EQ(TakeCores(8, {"parallel.ranks=3"}).ranks, 3);
  EXPECT_EQ(TakeCores(8, {"parallel.ranks=3"}).note, "");
  EXPECT_THAT([&] { take(8, "device=CUDA"); },
              ThrowsMessage<UserError>(HasSubstr("give the number of GPUs")));
}

TEST(RankCount, UnderALauncherAutoIsNoNumber) {
  const Taken taken = Take(3, "", {"parallel.ranks=0"});
  EXPECT_EQ(taken.ranks, 3);
  EXPECT_EQ(taken.note, "");
}

}  // namespace
}  // namespace unipool
