// One run per folder, also after a run that died.
#include "launcher/run_control/run_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(RunLock, SecondRunInAFolderIsRefusedUntilTheFirstEnds) {
  TemporaryFolder folder;
  const std::string run = folder / "runs/a";  // is created
  auto first = std::make_unique<RunLock>(run);
  EXPECT_THAT(
      [&] { RunLock second(run); },
      ThrowsMessage<UserError>(AllOf(HasSubstr("another run is using " + run), HasSubstr("choose another"))));
  EXPECT_NO_THROW(RunLock(folder / "runs/b"));
  first.reset();
  EXPECT_NO_THROW(RunLock{run});
  EXPECT_TRUE(std::filesystem::exists(run + "/lock"));
}

TEST(RunLock, AKilledRunHoldsNothing) {
  TemporaryFolder folder;
  const std::string run = folder.path();
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    RunLock held(run);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_THROW(RunLock{run}, UserError);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_NO_THROW(RunLock{run});
  close(ready[0]);
  close(ready[1]);
}

TEST(RunLock, FolderThatCannotBeWrittenIsASentence) {
  TemporaryFolder folder;
  const std::string file = WriteFile(folder / "file", "a file where the folder should be");
  EXPECT_THAT([&] { RunLock lock(file); },
              ThrowsMessage<UserError>(
                  AllOf(HasSubstr("cannot write " + file + "/lock"), HasSubstr("choose a folder"))));
}

}  // namespace
}  // namespace unipool
