// An export is there as a whole or not at all.
#include "launcher/interop/export_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

class ExportFolderTest : public testing::Test {
 protected:
  ExportFolderTest() : root_(fs::temp_directory_path() / ("export_folder_" + std::to_string(getpid()))) {
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  ~ExportFolderTest() override { fs::remove_all(root_); }
  int64_t NumEntries() const {
    return std::distance(fs::directory_iterator(root_), fs::directory_iterator());
  }
  fs::path root_;
};

TEST_F(ExportFolderTest, HasItsNameWhenItIsFinished) {
  {
    ExportFolder folder((root_ / "out/").string());
    folder.Write("a.txt", "text");
    EXPECT_FALSE(fs::exists(root_ / "out"));
    folder.Finish();
  }
  EXPECT_EQ(NumEntries(), 1);
  EXPECT_EQ(ReadTextFile((root_ / "out/a.txt").string()), "text");
}

TEST_F(ExportFolderTest, LeavesNothingUnfinished) {
  {
    ExportFolder folder((root_ / "out").string());
    folder.Write("a.txt", "text");
    EXPECT_EQ(NumEntries(), 1);
  }
  EXPECT_EQ(NumEntries(), 0);
}

TEST_F(ExportFolderTest, RefusesWhatExists) {
  fs::create_directories(root_ / "folder");
  fs::create_symlink("nowhere", root_ / "link");
  for (const char* name : {"folder", "link"})
    EXPECT_THROW(ExportFolder((root_ / name).string()), UserError) << name;
  EXPECT_THROW(ExportFolder((root_ / "missing/out").string()), UserError);
  EXPECT_EQ(NumEntries(), 2);
  ExportFolder folder((root_ / "late").string());
  fs::create_directories(root_ / "late");  // another program was faster
  EXPECT_THROW(folder.Finish(), UserError);
}

}  // namespace
}  // namespace unipool
