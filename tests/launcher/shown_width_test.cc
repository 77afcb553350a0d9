// Texts are cut between characters, never in one.
#include "launcher/reports/shown_width.h"

#include <gtest/gtest.h>

#include "launcher/tokens/tokenizer.h"

namespace unipool {
namespace {

constexpr char kName[] = "r\u00e4t-\u8a9e-\U0001f600!";  // characters of 1, 2, 3 and 4 bytes

TEST(ShownWidth, CountsCharacters) {
  EXPECT_EQ(ShownWidth(""), 0);
  EXPECT_EQ(ShownWidth(kName), 8);
}

TEST(ShownWidth, CutsBetweenCharacters) {
  const std::string name = kName;
  for (size_t bytes = 0; bytes <= name.size() + 2; ++bytes) {
    const size_t whole = WholeCharacters(name, bytes);
    EXPECT_LE(whole, bytes);
    EXPECT_LT(bytes - whole, 4u + (bytes > name.size() ? 4 : 0));
    EXPECT_EQ(FirstInvalidUtf8(name.substr(0, whole)), -1) << bytes;
  }
  for (int64_t columns = 0; columns <= 10; ++columns) {
    for (const std::string& part : {FirstColumns(name, columns), LastColumns(name, columns)}) {
      EXPECT_EQ(FirstInvalidUtf8(part), -1) << columns;
      EXPECT_EQ(ShownWidth(part), std::min<int64_t>(columns, 8));
    }
  }
  EXPECT_EQ(FirstColumns(name, 2), "r\u00e4");
  EXPECT_EQ(LastColumns(name, 2), "\U0001f600!");
}

TEST(ShownWidth, ShortensWhatIsTooLong) {
  EXPECT_EQ(Shortened(kName, 8), kName);
  EXPECT_EQ(Shortened(kName, 7), "r\u00e4t-...");
  EXPECT_EQ(Shortened("abcd", 3), "...");
}

TEST(ShownWidth, BytesThatAreNoCharactersEnd) {
  const std::string wrong = "\x80\x80\x80\xff";
  EXPECT_EQ(WholeCharacters(wrong, 2), 0u);
  EXPECT_EQ(LastColumns(wrong, 3), wrong);
}

}  // namespace
}  // namespace unipool
