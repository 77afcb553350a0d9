#include "runtime/errors.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(UserError, TellsItsProblemsOneALine) {
  const UserError one("first");
  EXPECT_STREQ(one.what(), "first");
  EXPECT_EQ(one.problems(), std::vector<std::string>{"first"});
  const UserError two(std::vector<std::string>{"first", "second"});
  EXPECT_STREQ(two.what(), "first\nsecond");
  EXPECT_EQ(two.problems().size(), 2u);
}

TEST(Problems, ThrowAllAtOnceOrNothing) {
  Problems problems;
  EXPECT_TRUE(problems.empty());
  EXPECT_NO_THROW(problems.ThrowIfAny());
  problems.Add("a");
  problems.Add("b");
  EXPECT_FALSE(problems.empty());
  try {
    problems.ThrowIfAny();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.problems(), (std::vector<std::string>{"a", "b"}));
  }
}

}  // namespace
}  // namespace unipool
