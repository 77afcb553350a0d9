#include "launcher/data/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "launcher/data/indexed_dataset.h"
#include "launcher/data/indexed_dataset_writer.h"
#include "launcher/data/text_dataset.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr size_t kSize = 100000;

int64_t Sum(const MappedFile& file) {
  int64_t sum = 0;
  file.Reading([&] { sum = std::accumulate(file.data(), file.data() + file.size_bytes(), int64_t{0}); });
  return sum;
}

void Wait() {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // longer than a file system's clock ticks
}

auto WasWritten(const std::string& sizes) {
  return ThrowsMessage<UserError>(AllOf(HasSubstr("/f: was written to while it was read"), HasSubstr(sizes)));
}

TEST(MappedFile, CutIsASentenceAgainAndAgain) {
  TemporaryFolder folder;
  const MappedFile file(WriteFile(folder / "f", std::string(kSize, 1)));
  EXPECT_EQ(Sum(file), int64_t{kSize});
  std::filesystem::resize_file(file.path(), 10);
  for (int i = 0; i < 3; ++i)
    EXPECT_THAT([&] { Sum(file); }, WasWritten("100000 bytes when it was opened, 10 now"));
}

TEST(MappedFile, EachThreadHasItsOwnReturn) {
  TemporaryFolder folder;
  const MappedFile cut(WriteFile(folder / "f", std::string(kSize, 1)));
  const MappedFile whole(WriteFile(folder / "whole", std::string(kSize, 1)));
  std::filesystem::resize_file(cut.path(), 10);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        EXPECT_THROW(Sum(cut), UserError);
        EXPECT_EQ(Sum(whole), int64_t{kSize});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(MappedFile, OtherBytesAreSeen) {
  TemporaryFolder folder;
  const MappedFile file(WriteFile(folder / "f", std::string(kSize, 1)));
  Wait();
  std::ofstream(file.path(), std::ios::in) << "other";
  EXPECT_THAT([&] { Sum(file); }, WasWritten("100000 bytes when it was opened, 100000 now"));
}

TEST(MappedFile, OneThatIsTouchedIsReadOn) {
  TemporaryFolder folder;
  const MappedFile file(WriteFile(folder / "f", std::string(kSize, 1)));
  for (int i = 0; i < 2; ++i) {
    Wait();
    std::filesystem::last_write_time(file.path(), std::filesystem::file_time_type::clock::now());
    testing::internal::CaptureStderr();
    EXPECT_EQ(Sum(file), int64_t{kSize});
    EXPECT_EQ(Sum(file), int64_t{kSize});
    const std::string told = testing::internal::GetCapturedStderr();
    EXPECT_EQ(told.find("was touched"), told.rfind("was touched")) << told;
    EXPECT_THAT(told, HasSubstr("/f: was touched"));
  }
}

TEST(MappedFile, OneThatIsReplacedKeepsItsBytes) {
  TemporaryFolder folder;
  const MappedFile file(WriteFile(folder / "f", std::string(kSize, 1)));
  EXPECT_TRUE(file.IsNamed());
  WriteFile(folder / "g", "other");
  std::filesystem::rename(folder / "g", file.path());
  EXPECT_FALSE(file.IsNamed());
  EXPECT_EQ(Sum(file), int64_t{kSize});
}

// What is not a reading of a mapped file ends the process as before.
TEST(MappedFile, OtherBusErrorsAreNotTaken) {
  TemporaryFolder folder;
  const MappedFile file(WriteFile(folder / "f", std::string(kSize, 1)));
  std::filesystem::resize_file(file.path(), 10);
  EXPECT_DEATH(static_cast<void>(const_cast<const volatile uint8_t*>(file.data())[50000]), "");
}

TEST(MappedFile, SourcesTellOfIt) {
  TemporaryFolder folder;
  const TextDataset text(WriteFile(folder / "f", std::string(kSize, 1)));
  std::vector<int32_t> tokens(100);
  text.Read(50000, tokens, 256);
  std::filesystem::resize_file(folder / "f", 10);
  EXPECT_THAT([&] { text.Read(50000, tokens, 256); }, WasWritten("10 now"));

  const auto write = [&](int32_t id) {
    IndexedDatasetWriter writer(folder / "p", TokenType::kUint8);
    writer.Add(std::vector<uint8_t>(kSize, static_cast<uint8_t>(id)), std::vector<int32_t>{kSize});
    writer.Finish();
  };
  write(1);
  const IndexedDataset dataset(folder / "p");
  dataset.Read(50000, tokens, 256);
  write(2);  // other files under these names
  dataset.Read(50000, tokens, 256);
  EXPECT_EQ(tokens[0], 1);
  const IndexedDataset second(folder / "p");
  std::filesystem::resize_file(folder / "p.bin", 10);
  EXPECT_THAT([&] { second.Read(50000, tokens, 256); },
              ThrowsMessage<UserError>(HasSubstr("/p.bin: was written to while it was read")));
}

}  // namespace
}  // namespace unipool
