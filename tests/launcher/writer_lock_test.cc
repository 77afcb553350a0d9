#include "launcher/tokens/writer_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "launcher/data/indexed_dataset.h"
#include "launcher/data/indexed_dataset_writer.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(WriterLock, OneAtATimeAndNothingIsLeft) {
  TemporaryFolder folder;
  const std::string path = folder / "p";
  {
    WriterLock lock(path);
    EXPECT_THAT(
        [&] { WriterLock second(path); },
        ThrowsMessage<UserError>(AllOf(HasSubstr("/p: another process is writing"), HasSubstr("p.lock"))));
    WriterLock of_another_name(folder / "q");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  WriterLock again(path);
}

TEST(WriterLock, OfAKilledProcessIsTakenOver) {
  TemporaryFolder folder;
  const std::string path = folder / "p";
  const pid_t child = fork();
  if (child == 0) {
    WriterLock lock(path);
    raise(SIGKILL);
  }
  waitpid(child, nullptr, 0);
  ASSERT_TRUE(std::filesystem::exists(path + ".lock"));
  { WriterLock lock(path); }
  EXPECT_FALSE(std::filesystem::exists(path + ".lock"));
}

// Holders never meet, though each removes the file that the next one opens.
TEST(WriterLock, ManyContend) {
  TemporaryFolder folder;
  std::atomic<int> inside{0}, taken{0}, together{0};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      // On a busy machine most tries come while a holder waits for a core.
      for (int i = 0; i < 500 || (taken <= 100 && std::chrono::steady_clock::now() < end); ++i) {
        try {
          WriterLock lock(folder / "p");
          together += ++inside > 1;
          ++taken;
          std::this_thread::yield();
          --inside;
        } catch (const UserError&) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, 0);
  EXPECT_GT(taken, 100);
}

// A second writer of a dataset is refused and changes nothing; what a killed one left is written over.
TEST(WriterLock, KeepsDatasetsWhole) {
  TemporaryFolder folder;
  WriteFile(folder / "p.bin.part", "left by a killed writer, and longer than what comes");
  const std::vector<int32_t> lengths = {2};
  const std::vector<uint8_t> bytes = {1, 0, 2, 0};
  {
    IndexedDatasetWriter writer(folder / "p", TokenType::kUint16);
    writer.Add(bytes, lengths);
    EXPECT_THROW(IndexedDatasetWriter(folder / "p", TokenType::kInt32), UserError);
    writer.Add(bytes, lengths);
    writer.Finish();
  }
  const IndexedDataset dataset(folder / "p");
  EXPECT_EQ(dataset.num_tokens(), 4);
  EXPECT_EQ(std::filesystem::file_size(folder / "p.bin"), 8u);
  EXPECT_FALSE(std::filesystem::exists(folder / "p.bin.part"));
  EXPECT_FALSE(std::filesystem::exists(folder / "p.lock"));
}

}  // namespace
}  // namespace unipool
