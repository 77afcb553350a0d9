// Sums of files: known values, pieces of any size, and what is no regular file.
#include "runtime/file_sum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace unipool {
namespace {

namespace fs = std::filesystem;

std::string ProblemOf(const std::string& path) {
  try {
    SumOfFile(path);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(FileSum, IsTheHashThatXxhsumPrints) {
  EXPECT_EQ(SumOfText(""), (FileSum{.bytes = 0, .hash = "2d06800538d394c2"}));
  EXPECT_EQ(SumOfText("a").hash, "e6c632b61e964e1f");
}

TEST(FileSum, DoesNotDependOnThePieces) {
  std::string text;
  for (int i = 0; i < 3'000'000; ++i) text += static_cast<char>(i * 7 + i / 256);
  FileSummer summer;
  for (size_t begin = 0, size = 1; begin < text.size(); begin += size, size = size * 3 + 1) {
    size = std::min(size, text.size() - begin);
    summer.Add(text.data() + begin, static_cast<int64_t>(size));
  }
  EXPECT_EQ(summer.Sum(), SumOfText(text));
  const std::string path = fs::path(testing::TempDir()) / ("file_sum_" + std::to_string(getpid()));
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(SumOfFile(path), SumOfText(text));
  EXPECT_EQ(ReadTextFile(path), text);
  text[1'234'567] ^= 1;
  EXPECT_NE(SumOfFile(path), SumOfText(text));
  fs::remove(path);
}

TEST(FileSum, WhatIsNoRegularFileIsRefusedAtOnce) {
  const std::string path = fs::path(testing::TempDir()) / ("no_file_" + std::to_string(getpid()));
  EXPECT_THAT(ProblemOf(path), testing::HasSubstr("is missing"));
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(ProblemOf(path), testing::HasSubstr("is not a regular file"));
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_THAT(ProblemOf(path), testing::HasSubstr("is not a regular file"));
  fs::remove(path);
}

}  // namespace
}  // namespace unipool
