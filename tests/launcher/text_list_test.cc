#include "launcher/text_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace unipool {
namespace {

using ::testing::ElementsAre;

TEST(TextList, CommasDivideUnlessTheyAreQuoted) {
  EXPECT_THAT(SplitTextList(""), ElementsAre());
  EXPECT_THAT(SplitTextList(",, ,"), ElementsAre());
  EXPECT_THAT(SplitTextList("a"), ElementsAre("a"));
  EXPECT_THAT(SplitTextList(" a, b c ,,d"), ElementsAre("a", "b c", "d"));
  EXPECT_THAT(SplitTextList(R"(my\, book.txt,b)"), ElementsAre("my, book.txt", "b"));
  EXPECT_THAT(SplitTextList(R"("my, book.txt",b)"), ElementsAre("my, book.txt", "b"));
  EXPECT_THAT(SplitTextList("'my, \"book\".txt', b"), ElementsAre("my, \"book\".txt", "b"));
  EXPECT_THAT(SplitTextList(R"(0.5 "x, y",0.5 z)"), ElementsAre(R"(0.5 "x, y")", "0.5 z"));
  EXPECT_THAT(SplitTextList(R"((0.7, 'a, b'), (0.3, c))"), ElementsAre("(0.7", "'a, b')", "(0.3", "c)"));
}

TEST(TextList, MarksAndBackslashesInNamesStay) {
  EXPECT_THAT(SplitTextList("it's, that's"), ElementsAre("it's", "that's"));
  EXPECT_THAT(SplitTextList("'tis,b"), ElementsAre("'tis", "b"));
  EXPECT_THAT(SplitTextList(R"(a\b,c\)"), ElementsAre(R"(a\b)", R"(c\)"));
}

}  // namespace
}  // namespace unipool
