// What Python 3 gives for the same texts.
#include "launcher/tasks/python_text.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(PythonText, CountsCharacters) {
  EXPECT_EQ(NumCharacters(""), 0);
  EXPECT_EQ(NumCharacters("abc"), 3);
  EXPECT_EQ(NumCharacters("na\u00efve \u4e2d\U0001F600"), 8);
}

TEST(PythonText, StripsUnicodesBlanks) {
  EXPECT_EQ(Stripped(" \t\u00a0a b\u3000\n"), "a b");
  EXPECT_EQ(Stripped("\u200ba"), "\u200ba");  // no blank to Python
  EXPECT_EQ(Stripped(" \u2028 "), "");
  EXPECT_EQ(RightStrippedSize("  a\u2003 "), 3u);
  EXPECT_EQ(RightStrippedSize("\u00e0"), 2u);  // its second byte is 0xa0
}

TEST(PythonText, Capitalizes) {
  EXPECT_EQ(Capitalized(""), "");
  EXPECT_EQ(Capitalized("the man IN New York\nSays Hi"), "The man in new york\nsays hi");
  EXPECT_EQ(Capitalized("\u00e9COLE \u00c4RGER"), "\u00c9cole \u00e4rger");
  EXPECT_EQ(Capitalized("1ST $1 \\U"), "1st $1 \\u");
}

TEST(PythonText, CutsBrackets) {
  EXPECT_EQ(WithoutBrackets(" How to bake [title] Mix. [step] Stir  well "), "How to bake. Mix. Stir well");
  EXPECT_EQ(WithoutBrackets("a [b\nc] d"), "a [b\nc] d");  // not over lines
  EXPECT_EQ(WithoutBrackets("[a]b[c]d]"), "bd]");
  EXPECT_EQ(WithoutBrackets("[[a]] b"), "] b");
  EXPECT_EQ(WithoutBrackets("[a\n[b]c"), "[a\nc");
  EXPECT_EQ(WithoutBrackets("a    b"), "a  b");  // once
}

}  // namespace
}  // namespace unipool
