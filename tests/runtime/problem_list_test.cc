#include "runtime/problem_list.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

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

TEST(Problems, KeepTheirExitCodeAndTheLowestWins) {
  const std::string wrong = PackProblems(UserError("wrong input"));
  const std::string full = PackProblems(UserError("disk full", kNotSavedExitCode));
  EXPECT_EQ(UnpackProblems(full), std::vector<std::string>{"disk full"});
  EXPECT_EQ(ExitCodeOf({"", ""}), 0);
  EXPECT_EQ(ExitCodeOf({"", full}), kNotSavedExitCode);
  EXPECT_EQ(ExitCodeOf({full, wrong, ""}), kUserErrorExitCode);
}

TEST(Problems, OfAnyException) {
  EXPECT_EQ(ProblemsOf([] {}), "");
  const std::string other = ProblemsOf([] { throw std::runtime_error("of a library"); });
  EXPECT_EQ(UnpackProblems(other), std::vector<std::string>{"of a library"});
  EXPECT_EQ(ExitCodeOf({other}), kUserErrorExitCode);
  const std::string memory = ProblemsOf([] { throw std::bad_alloc(); });
  EXPECT_EQ(UnpackProblems(memory)[0].find("out of memory: this process holds "), 0u) << memory;
  EXPECT_NE(memory.find(", and there are "), std::string::npos) << memory;
  const std::string full = ProblemsOf([] { throw UserError("disk full", kNotSavedExitCode); });
  EXPECT_EQ(ExitCodeOf({full}), kNotSavedExitCode);
}

}  // namespace
}  // namespace unipool
