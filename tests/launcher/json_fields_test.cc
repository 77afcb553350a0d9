// Every wrong field is a problem of its own, and has the value that was given for it otherwise.
#include "launcher/interop/json_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unipool {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string ProblemsOf(const Problems& problems) {
  try {
    problems.ThrowIfAny();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(JsonFields, TakesWhatIsThere) {
  const json object = {{"n", 7},      {"whole", 3.0},     {"x", 0.5},          {"yes", true},
                       {"text", "a"}, {"list", {1, 2.5}}, {"nothing", nullptr}};
  Problems problems;
  JsonFields fields(object, "file", problems);
  EXPECT_EQ(fields.Whole("n"), 7);
  EXPECT_EQ(fields.Whole("whole"), 3);
  EXPECT_EQ(fields.Whole("nothing", 1, 9), 9);
  EXPECT_EQ(fields.Real("x", 1), 0.5);
  EXPECT_EQ(fields.Real("n", 1), 7);
  EXPECT_TRUE(fields.Bool("yes", false));
  EXPECT_EQ(fields.Text("text", ""), "a");
  EXPECT_EQ(fields.Text("absent", "b"), "b");
  EXPECT_THAT(fields.Reals("list"), testing::ElementsAre(1, 2.5));
  EXPECT_FALSE(fields.Has("nothing"));
  EXPECT_TRUE(problems.empty());
}

TEST(JsonFields, SaysWhatIsWrong) {
  const json object = {{"small", 0},    {"part", 1.5},      {"large", 1e18},
                       {"word", "six"}, {"list", {1, "a"}}, {"long", std::string(500, 'x')}};
  Problems problems;
  JsonFields fields(object, "file", problems);
  EXPECT_EQ(fields.Whole("small"), 1);
  EXPECT_EQ(fields.Whole("part", 1, 4), 4);
  fields.Whole("large");
  fields.Whole("absent", 2);
  EXPECT_EQ(fields.Real("word", 2), 2);
  EXPECT_FALSE(fields.Bool("word", false));
  EXPECT_TRUE(fields.Reals("list").empty());
  fields.Real("long", 0);
  EXPECT_EQ(fields.Text("part", "c"), "c");
  const std::string text = ProblemsOf(problems);
  for (const char* sentence :
       {"file: small is 0; must be a whole number from 1 to 2147483647",
        "part is 1.5; must be a whole number", "large is 1e+18",
        "absent is missing; it must be a whole number from 2 on", "word is \"six\"; must be a number",
        "word is \"six\"; must be true or false", "list is a list; must be a list of numbers",
        "xxx...; must be a number", "part is 1.5; must be a text"})
    EXPECT_THAT(text, HasSubstr(sentence));
}

}  // namespace
}  // namespace unipool
