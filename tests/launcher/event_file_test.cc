// Event files hold whole records with right sums, and a file a start.
#include "launcher/reports/event_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "launcher/reports/tensorboard_event.pb.h"
#include "runtime/tensor_file.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

// The events of a file, after a look at lengths and sums.
std::vector<tensorboard::Event> EventsOf(const std::string& path) {
  const std::string file = ReadTextFile(path);
  std::vector<tensorboard::Event> events;
  for (size_t at = 0; at < file.size();) {
    uint64_t length = 0;
    uint32_t sum_of_length = 0, sum = 0;
    std::memcpy(&length, &file[at], 8);
    std::memcpy(&sum_of_length, &file[at + 8], 4);
    EXPECT_EQ(sum_of_length, MaskedCrc32c(file.substr(at, 8)));
    const std::string data = file.substr(at + 12, length);
    EXPECT_EQ(data.size(), length);
    std::memcpy(&sum, &file[at + 12 + length], 4);
    EXPECT_EQ(sum, MaskedCrc32c(data));
    EXPECT_TRUE(events.emplace_back().ParseFromString(data));
    at += length + 16;
  }
  return events;
}

TEST(EventFile, SumsAreCrc32c) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aa);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43);
  EXPECT_EQ(Crc32c(""), 0);
}

TEST(EventFile, HoldsScalarsBehindTheStart) {
  const TemporaryFolder folder;
  EventFile file(folder.path(), 6);
  EXPECT_EQ(file.Write(7, {{"loss", 2.5}, {"peak_memory/weights", 64}}), "");
  EXPECT_EQ(file.Write(8, {{"loss", -0.25}}), "");
  const auto events = EventsOf(file.path());
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[1].session_log().status(), tensorboard::SessionLog::START);
  EXPECT_EQ(events[1].step(), 7);
  EXPECT_EQ(events[2].step(), 7);
  ASSERT_EQ(events[2].summary().value_size(), 2);
  EXPECT_EQ(events[2].summary().value(1).tag(), "peak_memory/weights");
  EXPECT_EQ(events[2].summary().value(1).simple_value(), 64.0F);
  EXPECT_EQ(events[3].summary().value(0).simple_value(), -0.25F);
}

TEST(EventFile, EachStartHasItsOwn) {
  const TemporaryFolder folder;
  const EventFile first(folder.path(), 0), second(folder.path(), 5);
  EXPECT_NE(first.path(), second.path());
  EXPECT_LT(first.path(), second.path());
  EXPECT_EQ(EventsOf(second.path()).back().step(), 6);
}

}  // namespace
}  // namespace unipool
