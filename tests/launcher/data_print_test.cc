// What tells two hosts' data apart.
#include "launcher/data/data_print.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

std::string Print(const std::string& content) {
  const std::string path = testing::TempDir() + "data_print.txt";
  std::ofstream(path) << content;
  return DescribeDataFiles(path)[0];
}

TEST(DataPrint, SizeAndContent) {
  const std::string text(1'000'000, 'a');
  EXPECT_EQ(Print(text), Print(text));
  EXPECT_THAT(Print(text), HasSubstr("data_print.txt: 1000000 bytes, contents "));
  EXPECT_NE(Print(text + "a"), Print(text));
  std::string other_end = text, other_begin = text;
  other_end.back() = 'b';
  other_begin.front() = 'b';
  EXPECT_NE(Print(other_end), Print(text));
  EXPECT_NE(Print(other_begin), Print(text));
  EXPECT_NE(Print(""), Print("a"));
}

TEST(DataPrint, BothFilesOfAPrefix) {
  const std::string prefix = testing::TempDir() + "data_print_prefix";
  std::ofstream(prefix + ".idx") << "x";
  EXPECT_THAT(DescribeDataFiles(prefix), ElementsAre(HasSubstr(".idx: 1 bytes"), EndsWith(".bin: absent")));
  EXPECT_THAT(DescribeDataFiles("no/such"), ElementsAre("no/such: absent"));
}

}  // namespace
}  // namespace unipool
