// Where a picture may go, and what it leaves alone.
#include "launcher/reports/own_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class OwnFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        testing::TempDir() + "picture_file_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  std::string Problem(const std::string& name) const {
    try {
      WritePicture(Path(name), "<svg/>\n");
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  std::string folder_;
};

TEST_F(OwnFileTest, LeavesOtherFilesAlone) {
  std::ofstream(Path("metrics.jsonl")) << "{\"step\":1}\n";
  std::ofstream(Path("lock")) << "";
  fs::create_symlink("metrics.jsonl", Path("link.svg"));
  for (const char* name : {"metrics.jsonl", "lock", "link.svg"})
    EXPECT_THAT(Problem(name), HasSubstr("is no SVG picture, so it is not replaced"));
  EXPECT_EQ(ReadTextFile(Path("metrics.jsonl")), "{\"step\":1}\n");
  EXPECT_EQ(ReadTextFile(Path("lock")), "");
  EXPECT_TRUE(fs::is_symlink(Path("link.svg")));
  EXPECT_THAT(Problem("."), HasSubstr("is a folder"));
}

TEST_F(OwnFileTest, ReplacesPicturesAndFollowsLinks) {
  EXPECT_EQ(Problem("new.svg"), "");
  EXPECT_EQ(ReadTextFile(Path("new.svg")), "<svg/>\n");
  for (const char* old : {"<svg old/>", "<?xml?><svg/>"}) {
    std::ofstream(Path("old.svg")) << old;
    EXPECT_EQ(Problem("old.svg"), "");
    EXPECT_EQ(ReadTextFile(Path("old.svg")), "<svg/>\n");
  }
  fs::create_symlink("old.svg", Path("link.svg"));
  fs::create_symlink("absent.svg", Path("dangling.svg"));
  std::ofstream(Path("old.svg")) << "<svg other/>";
  EXPECT_EQ(Problem("link.svg"), "");
  EXPECT_EQ(Problem("dangling.svg"), "");
  EXPECT_TRUE(fs::is_symlink(Path("link.svg")));
  EXPECT_TRUE(fs::is_symlink(Path("dangling.svg")));
  EXPECT_EQ(ReadTextFile(Path("old.svg")), "<svg/>\n");
  EXPECT_EQ(ReadTextFile(Path("absent.svg")), "<svg/>\n");
}

TEST_F(OwnFileTest, APipeTakesTheBytesAndStaysAPipe) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  const int reader = open(Path("pipe").c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  EXPECT_EQ(Problem("pipe"), "");
  char bytes[32] = {};
  EXPECT_EQ(read(reader, bytes, sizeof bytes), 7);
  EXPECT_STREQ(bytes, "<svg/>\n");
  close(reader);
  EXPECT_TRUE(fs::is_fifo(Path("pipe")));
}

}  // namespace
}  // namespace unipool
