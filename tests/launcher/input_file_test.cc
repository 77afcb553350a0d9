#include "launcher/tokens/input_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <random>
#include <thread>

#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string ReadAll(const std::string& path) {
  InputFile file(path);
  std::string all(1000, 'x'), part = all;
  all.clear();
  while (const size_t count = file.Read(part.data(), part.size())) all.append(part, 0, count);
  return all;
}

// Text that packs badly, so that files are longer than any buffer on the way.
std::string SomeText(size_t size) {
  std::mt19937_64 random(std::random_device{}());
  std::string text;
  while (text.size() < size) text.push_back(static_cast<char>('!' + random() % 90));
  return text;
}

bool Shell(const std::string& command) {
  return std::system((command + " 2> /dev/null").c_str()) == 0;
}

class PackedTest : public ::testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  // PATH.SUFFIX of the tool, or "" where it is not on this machine.
  std::string Pack(const std::string& path) {
    const auto& [tool, suffix] = GetParam();
    return Shell(std::string(tool) + " -c < " + path + " > " + path + suffix) ? path + suffix : "";
  }
  TemporaryFolder folder_;
};

TEST_P(PackedTest, IsUnpackedByWhatItIsNotByItsName) {
  const std::string text = SomeText(300000), more = SomeText(5000);
  const std::string packed = Pack(WriteFile(folder_ / "a", text)),
                    second = Pack(WriteFile(folder_ / "b", more));
  if (packed.empty()) GTEST_SKIP() << GetParam().first << " is not on this machine";
  EXPECT_TRUE(InputFile::IsPacked(packed));
  EXPECT_FALSE(InputFile::IsPacked(folder_ / "a"));
  EXPECT_EQ(ReadAll(packed), text);
  std::filesystem::rename(packed, folder_ / "plain name");
  EXPECT_EQ(ReadAll(folder_ / "plain name"), text);
  WriteFile(folder_ / "both", ReadFile(folder_ / "plain name") + ReadFile(second));
  EXPECT_EQ(ReadAll(folder_ / "both"), text + more);
}

TEST_P(PackedTest, DamageIsASentence) {
  const std::string packed = Pack(WriteFile(folder_ / "a", SomeText(300000)));
  if (packed.empty()) GTEST_SKIP() << GetParam().first << " is not on this machine";
  const std::string bytes = ReadFile(packed);
  const auto fails = [&](const std::string& changed, const std::string& reason) {
    WriteFile(packed, changed);
    EXPECT_THAT([&] { ReadAll(packed); },
                ThrowsMessage<UserError>(AllOf(HasSubstr(packed + ": "), HasSubstr(reason))));
  };
  fails(bytes.substr(0, bytes.size() - 9), "cannot be unpacked (");
  fails(bytes.substr(0, bytes.size() / 2), "cannot be unpacked (");
  std::string flipped = bytes;
  flipped[bytes.size() / 2] = static_cast<char>(flipped[bytes.size() / 2] ^ 0x10);
  fails(flipped, "cannot be unpacked (");
  fails("", "does not begin as");
  fails("plain", "does not begin as");
}

TEST_P(PackedTest, MayBeLeftInTheMiddle) {
  const std::string packed = Pack(WriteFile(folder_ / "a", SomeText(3000000)));
  if (packed.empty()) GTEST_SKIP() << GetParam().first << " is not on this machine";
  InputFile file(packed);
  char some[10];
  EXPECT_EQ(file.Read(some, sizeof some), sizeof some);
}

TEST_P(PackedTest, ThroughAPipeSaysHowToUnpack) {
  const std::string packed = Pack(WriteFile(folder_ / "a", "some text"));
  if (packed.empty()) GTEST_SKIP() << GetParam().first << " is not on this machine";
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { WriteFile(folder_ / "pipe", ReadFile(packed)); });
  EXPECT_THAT([&] { ReadAll(folder_ / "pipe"); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("/pipe: comes compressed"),
                                             HasSubstr(std::string(GetParam().first) + " -dc FILE | "))));
  writer.join();
}

INSTANTIATE_TEST_SUITE_P(InputFile, PackedTest,
                         ::testing::Values(std::pair{"gzip", ".gz"}, std::pair{"zstd", ".zst"},
                                           std::pair{"bzip2", ".bz2"}, std::pair{"xz", ".xz"}),
                         [](const auto& info) { return std::string(info.param.first); });

TEST(InputFile, WithoutTheToolTheSentenceNamesIt) {
  TemporaryFolder folder;
  const std::string packed = WriteFile(folder / "a.zst", "\x28\xb5\x2f\xfd and more");
  const std::string path = std::getenv("PATH");
  setenv("PATH", folder.path().c_str(), 1);
  EXPECT_THAT([&] { InputFile file(packed); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("the program zstd"), HasSubstr("No such file"))));
  setenv("PATH", path.c_str(), 1);
}

TEST(InputFile, ANamedPipeIsReadToItsEnd) {
  TemporaryFolder folder;
  const std::string text = SomeText(300000);
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { WriteFile(folder / "pipe", text); });
  EXPECT_EQ(ReadAll(folder / "pipe"), text);
  writer.join();
}

TEST(InputFile, ChangesWhileItIsReadAreSeen) {
  TemporaryFolder folder;
  const auto reads = [&](auto change) {
    const std::string path = WriteFile(folder / "t", SomeText(5000));
    InputFile file(path);
    char part[1000];
    file.Read(part, sizeof part);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // longer than a file system's clock ticks
    change(path);
    while (file.Read(part, sizeof part) > 0) {
    }
  };
  const auto sentence = [](const char* sizes) {
    return ThrowsMessage<UserError>(
        AllOf(HasSubstr("/t: was written to while it was read"), HasSubstr(sizes)));
  };
  EXPECT_NO_THROW(reads([](const std::string&) {}));
  EXPECT_THAT([&] { reads([](const std::string& path) { std::filesystem::resize_file(path, 2000); }); },
              sentence("5000 bytes at the begin, 2000 at the end"));
  EXPECT_THAT([&] { reads([](const std::string& path) { std::ofstream(path, std::ios::app) << "more"; }); },
              sentence("5000 bytes at the begin, 5004 at the end"));
  EXPECT_THAT([&] { reads([](const std::string& path) { std::ofstream(path, std::ios::in) << "other"; }); },
              sentence("5000 bytes at the begin, 5000 at the end"));
  ::testing::internal::CaptureStderr();
  EXPECT_NO_THROW(reads([](const std::string& path) {
    WriteFile(path + "2", "other");
    std::filesystem::rename(path + "2", path);
  }));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("/t was replaced while it was read"));
}

}  // namespace
}  // namespace unipool
