// data.split: the one parser, and the sentences of what it refuses.
#include "launcher/data/data_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(DataSplit, BoundsAreCumulativeShares) {
  auto near = [](double value) { return testing::DoubleNear(value, 1e-15); };
  EXPECT_THAT(ParseDataSplit("969,30,1"), ElementsAre(0, near(0.969), near(0.999), 1));
  EXPECT_THAT(ParseDataSplit("0.1, 0.2, 0.7"), ElementsAre(0, near(0.1), near(0.3), 1));
  EXPECT_THAT(ParseDataSplit(" 9 , 1 , 0 "), ElementsAre(0, near(0.9), 1, 1));
  EXPECT_THAT(ParseDataSplit("0,0,3"), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(ParseDataSplit("0,3,0"), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(ParseDataSplit("0.1,0.7,0"), ElementsAre(0, near(0.125), 1, 1));
}

TEST(DataSplit, WhatIsRefusedIsNamed) {
  const char* expected = "expected three shares for training, validation and test, for example \"969,30,1\"";
  const std::pair<const char*, const char*> cases[] = {
      {"", "which are 0 numbers"},     {"5", "which are 1 numbers"},
      {"9,1", "which are 2 numbers"},  {"1,1,1,1", "which are 4 numbers"},
      {"0,0,0", "no positive share"},  {"1,-1,1", "not a number of at least 0"},
      {"1,x,1", "not a number"},       {"1,,1", "not a number"},
      {"1,2,3,", "ends with a comma"}, {"1,2,", "ends with a comma"},
      {"1,inf,1", "not a number"},     {"1,nan,1", "not a number"},
      {"9 1 0", "not a number"},       {"9/1/0", "not a number"},
  };
  for (const auto& [split, problem] : cases) {
    const auto parse = [text = std::string(split)] { ParseDataSplit(text); };
    const std::string found = "data.split: is \"" + std::string(split) + "\"";
    EXPECT_THAT(parse,
                ThrowsMessage<UserError>(AllOf(HasSubstr(found), HasSubstr(problem), HasSubstr(expected))))
        << split;
  }
}

}  // namespace
}  // namespace unipool
