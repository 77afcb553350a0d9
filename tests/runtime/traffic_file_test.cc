#include "runtime/traffic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bit>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>

#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/tensor_file.h"
#include "tests/fresh_seed.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TrafficFileTest : public ::testing::Test {
 protected:
  TrafficFileTest() : folder_(::testing::TempDir() + "traffic_file_" + std::to_string(getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~TrafficFileTest() override { std::filesystem::remove_all(folder_); }
  std::string Path() const { return folder_ + "/" + TrafficFileName(3); }
  TrafficFile Read() const { return ReadTrafficFile(Path(), "this version"); }
  std::string ReadProblem() const {
    try {
      Read();
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }

  const std::string folder_;
  TrafficHeader header_{.program_version = "that version",
                        .run_id = "abc",
                        .rank = 3,
                        .world = 4,
                        .host = "n\"1",
                        .boot_id = "b",
                        .clock = "monotonic",
                        .slots_per_time = 2};
};

// Every field has a value of its own.
ExchangeRecord Example(int64_t n) {
  ExchangeRecord r;
  r.head.flags = ExchangeRecord::kFirstUse;
  r.step = n;
  r.sequence = n + 1;
  r.communicator = 0;
  r.operation = 1;
  r.slot_time = 5;
  r.slot_index = 6;
  r.lane = 1;
  r.stage = 7;
  r.layer = 8;
  r.microbatch = 9;
  r.under_way = 10;
  r.cause = 11;
  r.bytes_self = 12;
  r.start_ns = 13;
  r.start_done_ns = 14;
  r.wait_enter_ns = 15;
  r.wait_leave_ns = 16;
  r.idle_ns = 17;
  r.idle_receiver_ns = 18;
  r.wire_ns = 19;
  r.device_begin_ns = 20;
  r.device_end_ns = 21;
  r.device_blocked_begin_ns = 22;
  r.device_blocked_end_ns = 23;
  r.row_bytes = 24;
  r.dropped_before = 25;
  return r;
}

const std::vector<PeerBytes> kPeers = {{.peer = 0, .bytes_to = 1, .bytes_from = 0},
                                       {.peer = 2, .bytes_to = int64_t{1} << 40, .bytes_from = 7}};

void Fill(TrafficFileWriter& file, int num_exchanges) {
  file.AddOperation(0, "counts");
  file.AddOperation(1, "dispatch forward");
  file.AddCommunicator(0, {.name = "pool", .members = {1, 3}, .on_device = true, .carrier = "NCCL"});
  for (int i = 0; i < num_exchanges; ++i) {
    file.Add(Example(i), std::span(kPeers).first(i % 3));
  }
  file.Add(StepRecord{.step = 4, .begin_ns = 100, .end_ns = 200, .num_exchanges = 2, .num_dropped = 1});
  file.Add(ClockRecord{.own_ns = 5, .offset_ns = -6, .uncertainty_ns = 7, .reference = 0, .num_probes = 100});
}

TEST_F(TrafficFileTest, GivesBackWhatWasWritten) {
  TrafficFileWriter writer(Path(), header_);
  Fill(writer, 3);
  EXPECT_EQ(writer.Flush(), "");
  writer.Add(Example(7), kPeers);
  EXPECT_EQ(writer.Flush(), "");
  const TrafficFile file = Read();
  EXPECT_EQ(file.header.program_version, "that version");
  EXPECT_EQ(file.header.run_id, "abc");
  EXPECT_EQ(file.header.rank, 3);
  EXPECT_EQ(file.header.world, 4);
  EXPECT_EQ(file.header.host, "n\"1");
  EXPECT_EQ(file.header.boot_id, "b");
  EXPECT_EQ(file.header.clock, "monotonic");
  EXPECT_EQ(file.header.slots_per_time, 2);
  EXPECT_THAT(file.operations, ElementsAre("counts", "dispatch forward"));
  ASSERT_EQ(file.communicators.size(), 1u);
  EXPECT_EQ(file.communicators[0].name, "pool");
  EXPECT_THAT(file.communicators[0].members, ElementsAre(1, 3));
  EXPECT_TRUE(file.communicators[0].on_device);
  EXPECT_EQ(file.communicators[0].carrier, "NCCL");
  ASSERT_EQ(file.exchanges.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    const RecordedExchange& got = file.exchanges[i];
    ExchangeRecord expected = Example(i == 3 ? 7 : i);
    expected.num_peers = i == 3 ? 2 : i;
    expected.head.bytes = got.record.head.bytes;
    expected.head.check = got.record.head.check;
    EXPECT_EQ(std::memcmp(&got.record, &expected, sizeof(expected)), 0) << i;
    ASSERT_EQ(got.peers.size(), i == 3 ? 2u : i);
    for (size_t p = 0; p < got.peers.size(); ++p) {
      EXPECT_EQ(std::memcmp(&got.peers[p], &kPeers[p], sizeof(PeerBytes)), 0) << p;
    }
  }
  ASSERT_EQ(file.steps.size(), 1u);
  EXPECT_EQ(file.steps[0].end_ns, 200);
  EXPECT_EQ(file.steps[0].num_dropped, 1);
  ASSERT_EQ(file.clocks.size(), 1u);
  EXPECT_EQ(file.clocks[0].offset_ns, -6);
  EXPECT_EQ(file.cut_bytes, 0);
}

// Steps were shorter before they told of the rank's core.
TEST_F(TrafficFileTest, ReadsStepsOfOlderFiles) {
  {
    TrafficFileWriter writer(Path(), header_);
    writer.Add(
        StepRecord{.step = 3, .begin_ns = 10, .end_ns = 40, .cpu_ns = 20, .queued_ns = 5, .pushed_off = 2});
    EXPECT_EQ(writer.Flush(), "");
  }
  const TrafficFile now = Read();
  ASSERT_EQ(now.steps.size(), 1u);
  EXPECT_EQ(now.steps[0].cpu_ns, 20);
  EXPECT_EQ(now.steps[0].queued_ns, 5);
  EXPECT_EQ(now.steps[0].pushed_off, 2);
  std::string text = ReadTextFile(Path());
  const size_t begin = text.find('\n') + 1;
  text.resize(begin + StepRecord::kFewestBytes);
  const uint32_t head[] = {StepRecord::kFewestBytes, static_cast<uint32_t>(TrafficKind::kStep), 0};
  std::memcpy(text.data() + begin, head, sizeof(head));
  uint64_t sum = 0x9e3779b97f4a7c15;  // as the file's own check
  for (size_t i = begin; i < text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    sum = (std::rotl(sum, 5) ^ word) * 0x2545f4914f6cdd1d;
  }
  const auto check = static_cast<uint32_t>(sum >> 32);
  std::memcpy(text.data() + begin + 8, &check, sizeof(check));
  WriteTextFile(Path(), text);
  const TrafficFile old = Read();
  ASSERT_EQ(old.steps.size(), 1u);
  EXPECT_EQ(old.cut_bytes, 0);
  EXPECT_EQ(old.steps[0].end_ns, 40);
  EXPECT_EQ(old.steps[0].cpu_ns, -1);
}

TEST_F(TrafficFileTest, ANewFileReplacesAnOldOne) {
  for (const int count : {3, 1}) {
    TrafficFileWriter writer(Path(), header_);
    Fill(writer, count);
    EXPECT_EQ(writer.Flush(), "");
  }
  EXPECT_EQ(Read().exchanges.size(), 1u);
}

// Whatever is missing at the end, whole records stay and no more.
TEST_F(TrafficFileTest, IsCutAtItsLastWholeRecord) {
  {
    TrafficFileWriter writer(Path(), header_);
    Fill(writer, 3);
    EXPECT_EQ(writer.Flush(), "");
  }
  const std::string text = ReadTextFile(Path());
  const size_t header_bytes = text.find('\n') + 1;
  size_t exchanges_before = 0;
  for (size_t bytes = header_bytes; bytes < text.size(); ++bytes) {
    WriteTextFile(Path(), text.substr(0, bytes));
    const TrafficFile file = Read();
    const size_t exchanges = file.exchanges.size();
    EXPECT_GE(exchanges, exchanges_before);
    EXPECT_LE(exchanges, exchanges_before + 1);
    exchanges_before = exchanges;
    EXPECT_TRUE(bytes % 8 == header_bytes % 8 || file.cut_bytes > 0) << bytes;
  }
  EXPECT_EQ(exchanges_before, 3u);
  WriteTextFile(Path(), text + std::string(4096, '\0'));  // as after a loss of power
  EXPECT_EQ(Read().exchanges.size(), 3u);
  EXPECT_EQ(Read().cut_bytes, 4096);
}

// A damaged byte is never taken for a record.
TEST_F(TrafficFileTest, CutsAtADamagedRecord) {
  SCOPED_TRACE(SeedText());
  {
    TrafficFileWriter writer(Path(), header_);
    Fill(writer, 3);
    EXPECT_EQ(writer.Flush(), "");
  }
  const std::string text = ReadTextFile(Path());
  const size_t header_bytes = text.find('\n') + 1;
  std::mt19937_64 random(FreshSeed());
  for (int i = 0; i < 300; ++i) {
    std::string damaged = text;
    damaged[header_bytes + random() % (text.size() - header_bytes)] ^= static_cast<char>(1 << random() % 8);
    WriteTextFile(Path(), damaged);
    EXPECT_GT(Read().cut_bytes, 0);
  }
}

TEST_F(TrafficFileTest, RefusesAnotherFormatWithBothVersions) {
  header_.format = kTrafficFormat + 1;
  TrafficFileWriter writer(Path(), header_);
  EXPECT_EQ(writer.Flush(), "");
  EXPECT_THAT(ReadProblem(), HasSubstr("format 3"));
  EXPECT_THAT(ReadProblem(), HasSubstr("format 2"));
  EXPECT_THAT(ReadProblem(), HasSubstr("that version"));
  EXPECT_THAT(ReadProblem(), HasSubstr("this version"));
}

TEST_F(TrafficFileTest, RefusesWhatIsNoSuchFile) {
  EXPECT_THAT(ReadProblem(), HasSubstr(Path()));
  for (const char* text :
       {"", "{}\n", "x\n", "{\"unipool_traffic\": 1}\n", "{\"unipool_traffic\": \"1\"}\n", "{\"unipool_"}) {
    WriteTextFile(Path(), text);
    EXPECT_THAT(ReadProblem(), HasSubstr(Path())) << text;
  }
}

// A file that may not grow any longer stands for a full disk.
TEST_F(TrafficFileTest, SaysInItselfThatItEndsEarly) {
  TrafficFileWriter writer(Path(), header_);
  const auto add_step = [&](int64_t step) {
    for (int64_t n = 0; n < 20; ++n) writer.Add(Example(n), {});
    writer.Add(StepRecord{.step = step});
    return writer.Flush();
  };
  ASSERT_EQ(add_step(4), "");
  const auto bytes = std::filesystem::file_size(Path());
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto ignored = signal(SIGXFSZ, SIG_IGN);
  const rlimit narrow{.rlim_cur = bytes + 300, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &narrow);
  const std::string problem = add_step(5);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, ignored);
  EXPECT_THAT(problem, HasSubstr("cannot be written (File too large)"));
  const TrafficFile file = Read();
  EXPECT_EQ(file.cut_bytes, 0);
  EXPECT_EQ(file.exchanges.size(), 20u);
  EXPECT_EQ(file.header.problem, "cannot be written (File too large); step 5 and later ones are not here");
}

TEST_F(TrafficFileTest, SaysOnceThatItCannotBeWritten) {
  for (const std::string& path : {folder_ + "/none/" + TrafficFileName(0), std::string("/dev/full")}) {
    TrafficFileWriter writer(path, header_);
    EXPECT_THAT(writer.Flush(), HasSubstr(path));
    writer.Add(Example(1), kPeers);
    EXPECT_EQ(writer.Flush(), "");
  }
}

}  // namespace
}  // namespace unipool
