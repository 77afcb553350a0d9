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

}  // namespace
}  // namespace unipool
