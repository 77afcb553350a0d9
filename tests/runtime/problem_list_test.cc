#include "runtime/problem_list.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(Problems, OfSeveralRanksAreListedOnce) {
  const std::string both = PackProblems(UserError(std::vector<std::string>{"shared", "two\nlines"}));
  const std::string one = PackProblems(UserError("shared"));
  EXPECT_EQ(UnpackProblems(both), (std::vector<std::string>{"shared", "two\nlines"}));
  EXPECT_EQ(UnpackProblems(""), std::vector<std::string>{});
  EXPECT_EQ(DistinctProblems({one, both, one}), (std::vector<std::string>{"shared", "two\nlines"}));
  EXPECT_EQ(DescribeProblems({one, both, one}), "error: shared\nerror: rank 1: two\nlines");
  EXPECT_EQ(DescribeProblems({"", one, one}), "error: ranks 1, 2: shared");
  EXPECT_FALSE(DistinctProblems({PackProblems(UserError(std::vector<std::string>{}))}).empty());
}

}  // namespace
}  // namespace unipool
