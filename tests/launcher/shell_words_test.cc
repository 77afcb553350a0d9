#include "launcher/slurm/shell_words.h"

#include <gmock/gmock.h>

#include <random>

#include "launcher/slurm/child_process.h"
#include "runtime/errors.h"
#include "tests/fresh_seed.h"

namespace unipool {
namespace {

using testing::ElementsAre;

// What bash makes of a word.
std::string Read(const std::string& word) {
  const auto outcome = RunChild({"bash", "-c", "printf -- %s " + word});
  return outcome ? outcome->out : "bash is missing";
}

TEST(ShellWord, IsReadAsItWasWhateverItHolds) {
  const std::vector<std::string> texts = {"plain/path-1.txt",
                                          "",
                                          "two words",
                                          "it's",
                                          "$(touch /tmp/oops)",
                                          "`id`",
                                          "a;b&&c|d>e<f",
                                          "\"quoted\"",
                                          "*?[a]{1,2}",
                                          "back\\slash\\",
                                          "~",
                                          "!x",
                                          "#no comment",
                                          "''",
                                          "$HOME",
                                          "=x",
                                          "-n"};
  for (const std::string& text : texts) EXPECT_EQ(Read(ShellWord(text)), text) << ShellWord(text);
}

TEST(ShellWord, HoldsForRandomText) {
  std::mt19937 random(FreshSeed());
  for (int i = 0; i < 50; ++i) {
    std::string text;
    for (int k = 0; k < 20; ++k)
      text += static_cast<char>(std::uniform_int_distribution<int>(32, 126)(random));
    EXPECT_EQ(Read(ShellWord(text)), text);
  }
}

TEST(ShellWord, LeavesPlainWordsAsTheyAre) {
  EXPECT_EQ(ShellWords({"data.train=a,b", "x y", "run_dir=r/1"}), "data.train=a,b 'x y' run_dir=r/1");
}

TEST(SplitShellWords, UndoesQuotes) {
  EXPECT_THAT(SplitShellWords(R"( a "b c" d'e f'g \"h i\ j '' )", "--x"),
              ElementsAre("a", "b c", "de fg", "\"h", "i j", ""));
  EXPECT_THAT(SplitShellWords("$(touch x) `y`", "--x"), ElementsAre("$(touch", "x)", "`y`"));
  EXPECT_THROW(SplitShellWords("a 'b", "--x"), UserError);
}

TEST(SplitShellWords, IsTheInverseOfShellWords) {
  const std::vector<std::string> words = {"it's", "a b", "\\", "\"", "x"};
  EXPECT_EQ(SplitShellWords(ShellWords(words), "--x"), words);
}

TEST(SbatchWord, EscapesQuotesAndPatterns) {
  EXPECT_EQ(SbatchWord("plain"), "plain");
  EXPECT_EQ(SbatchWord("a \"b\" \\"), R"("a \"b\" \\")");
  EXPECT_EQ(SbatchPattern("50%/x"), "50%%/x");
}

TEST(HasControlCharacters, FindsLineBreaks) {
  EXPECT_TRUE(HasControlCharacters("a\nb"));
  EXPECT_TRUE(HasControlCharacters("a\x1b"));
  EXPECT_FALSE(HasControlCharacters("a b\xc3\xa4"));
}

}  // namespace
}  // namespace unipool
