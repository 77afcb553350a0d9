// Programs that keep the rules get the right numbers under every policy; each mistake that the fake device is
// for is seen.
#include <gtest/gtest-spi.h>

#include <thread>

#include "tests/device_emulation/device_rig.h"
#include "tests/fresh_seed.h"

namespace unipool {
namespace {

// What a program leaves out.
enum class Mistake {
  kNone,
  kReadBeforeItIsMade,         // the communication queue does not wait for the compute queue
  kOverwriteBeforeItIsRead,    // the compute queue does not wait for the communication queue
  kHostWritesBeforeItIsRead,   // the host does not wait before it writes pinned memory again
  kHostReadsBeforeItIsFilled,  // the host does not wait before it reads pinned memory
};
enum class Maker { kKernel, kCopy };  // of what the communication queue sends

// Several rounds: pinned -> x -> y on the compute queue, y -> pinned on the communication queue; x, y and the
// pinned input are used again. Empty where all arrived, otherwise what was seen.
std::string RunRounds(RunPolicy policy, uint64_t seed, Maker maker, Mistake mistake) {
  constexpr int kRounds = 5;
  Rig s(policy, seed);
  float *x = s.Array(), *y = s.Array(), *in = s.Pinned(), *out = s.Pinned(kRounds * kCount);
  AsyncDevice& device = s.device;
  const auto read = device.MakeEvent(), made = device.MakeEvent(), sent = device.MakeEvent();
  const auto value = [](int round, int64_t i) { return static_cast<float>(round * 1000 + i); };
  try {
    for (int round = 0; round < kRounds; ++round) {
      if (mistake != Mistake::kHostWritesBeforeItIsRead) device.WaitOnHost(read, {});
      for (int64_t i = 0; i < kCount; ++i) in[i] = value(round, i);
      device.Copy(kCompute, x, in, kBytes);
      device.Record(read, kCompute);
      if (mistake != Mistake::kOverwriteBeforeItIsRead) device.AwaitEvent(kCompute, sent);
      maker == Maker::kKernel ? s.LaunchAffine(x, y) : device.Copy(kCompute, y, x, kBytes);
      device.Record(made, kCompute);
      if (mistake != Mistake::kReadBeforeItIsMade) device.AwaitEvent(kCommunication, made);
      device.Copy(kCommunication, out + round * kCount, y, kBytes);
      device.Record(sent, kCommunication);
    }
    if (mistake != Mistake::kHostReadsBeforeItIsFilled) device.WaitOnHost(sent, {});
  } catch (const DeviceError& error) {
    return error.what();
  }
  for (int64_t i = 0; i < kRounds * kCount; ++i) {
    const float sent_value = value(static_cast<int>(i / kCount), i % kCount);
    const float expected = maker == Maker::kKernel ? 2 * sent_value + 1 : sent_value;
    if (out[i] != expected) return "element " + std::to_string(i) + " is " + std::to_string(out[i]);
  }
  return "";
}

TEST(AsyncDevice, RightProgramsGiveTheSameUnderEveryPolicy) {
  for (const RunPolicy policy : kAllPolicies) {
    for (const Maker maker : {Maker::kKernel, Maker::kCopy}) {
      for (uint64_t repeat = 0; repeat < 20; ++repeat) {
        const uint64_t seed = FreshSeed() + repeat;
        EXPECT_EQ(RunRounds(policy, seed, maker, Mistake::kNone), "") << NameOf(policy) << ", " << seed;
      }
    }
  }
}

// Of two copies the order by events is looked at, not what happened to be: every policy sees it.
TEST(AsyncDevice, UnorderedCopiesAreSeenUnderEveryPolicy) {
  for (const RunPolicy policy : kAllPolicies) {
    for (const Mistake mistake : {Mistake::kReadBeforeItIsMade, Mistake::kOverwriteBeforeItIsRead}) {
      const std::string seen = RunRounds(policy, 3, Maker::kCopy, mistake);
      EXPECT_NE(seen.find("a race: copy "), std::string::npos) << NameOf(policy) << ": " << seen;
      EXPECT_NE(seen.find("(compute queue)"), std::string::npos) << seen;
      EXPECT_NE(seen.find("(communication queue)"), std::string::npos) << seen;
    }
  }
}

// A kernel's mistake shows in the numbers, under the policy that delays the right queue and by chance.
TEST(AsyncDevice, UnorderedKernelsGiveWrongNumbers) {
  const auto seen = [](RunPolicy policy, Mistake mistake) {
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      if (!RunRounds(policy, seed, Maker::kKernel, mistake).empty()) return true;
    }
    return false;
  };
  EXPECT_TRUE(seen(RunPolicy::kLate, Mistake::kReadBeforeItIsMade));
  EXPECT_TRUE(seen(RunPolicy::kComputeLate, Mistake::kReadBeforeItIsMade));
  EXPECT_TRUE(seen(RunPolicy::kRandom, Mistake::kReadBeforeItIsMade));
  EXPECT_TRUE(seen(RunPolicy::kCommunicationLate, Mistake::kOverwriteBeforeItIsRead));
  EXPECT_TRUE(seen(RunPolicy::kRandom, Mistake::kOverwriteBeforeItIsRead));
}

TEST(AsyncDevice, AnImpatientHostIsSeen) {
  const std::string written =
      RunRounds(RunPolicy::kLate, 1, Maker::kKernel, Mistake::kHostWritesBeforeItIsRead);
  EXPECT_NE(written.find("the host changed the pinned memory that it reads"), std::string::npos) << written;
  for (const RunPolicy policy : {RunPolicy::kLate, RunPolicy::kComputeLate, RunPolicy::kCommunicationLate}) {
    const std::string read = RunRounds(policy, 1, Maker::kKernel, Mistake::kHostReadsBeforeItIsFilled);
    EXPECT_NE(read.find("nan"), std::string::npos) << NameOf(policy) << ": " << read;
  }
}

TEST(AsyncDevice, DeclaredHostAccessesAreOrderedToo) {
  for (const RunPolicy policy : kAllPolicies) {
    Rig s(policy);
    float *x = s.Array(), *pinned = s.Pinned();
    const auto event = s.device.MakeEvent();
    s.device.Copy(kCommunication, pinned, x, kBytes);
    s.device.Record(event, kCommunication);
    s.device.WaitOnHost(event, {});
    s.device.HostAccess("sending", {pinned, kBytes, false});
    s.device.Copy(kCompute, x, pinned, kBytes);
    EXPECT_THROW(s.device.HostAccess("receiving", {pinned, kBytes, true}), DeviceError) << NameOf(policy);
  }
}

// Late: a wait runs what its event needs, of the other queue too, and nothing else.
TEST(AsyncDevice, LateRunsWhatIsNeeded) {
  Rig s(RunPolicy::kLate);
  AsyncDevice& device = s.device;
  float *x = s.Array(), *y = s.Array(), *z = s.Array(), *in = s.Pinned(), *out = s.Pinned();
  in[0] = 5;
  const auto made = device.MakeEvent(), sent = device.MakeEvent();
  device.Copy(kCompute, x, in, kBytes);
  device.Record(made, kCompute);
  device.AwaitEvent(kCommunication, made);
  s.LaunchAffine(x, z);
  device.Record(made, kCompute);  // later than what the other queue waits for
  device.Copy(kCommunication, y, x, kBytes);
  device.Copy(kCommunication, out, y, kBytes);
  device.Record(sent, kCommunication);
  EXPECT_EQ(x[0], 0);
  EXPECT_FALSE(device.IsDone(sent));
  EXPECT_EQ(x[0], 0);
  device.WaitOnHost(sent, {});
  EXPECT_EQ(out[0], 5);
  EXPECT_EQ(z[0], 0);
  EXPECT_FALSE(device.IsDone(made));
  device.WaitOnHost(made, {});
  EXPECT_EQ(z[0], 11);
}

TEST(AsyncDevice, EventsThatNobodyRecordedAreDone) {
  Rig s(RunPolicy::kLate);
  const auto event = s.device.MakeEvent();
  s.device.AwaitEvent(kCompute, event);
  EXPECT_TRUE(s.device.IsDone(event));
  EXPECT_THROW(s.device.Record(event + 1, kCompute), DeviceError);
}

TEST(AsyncDevice, RecordsTellWhatWasDone) {
  Rig s(RunPolicy::kRandom);
  AsyncDevice& device = s.device;
  {
    DeviceRange step(&device, "step");
    float *x = s.Array(), *y = s.Array(), *in = s.Pinned();
    device.Copy(kCompute, x, in, kBytes);
    for (int layer = 0; layer < 2; ++layer) {
      DeviceRange range(&device, "layer");
      s.LaunchAffine(x, y);
      s.LaunchAffine(y, x);
    }
    const auto event = device.MakeEvent();
    device.Record(event, kCompute);
    device.WaitOnHost(event, {.operation = "row counts", .slot = 3});
  }
  const AsyncDevice::Records& records = device.records();
  EXPECT_EQ(records.num_allocations, 2);
  EXPECT_EQ(records.num_pinned_allocations, 1);
  EXPECT_EQ(records.num_events, 1);
  EXPECT_EQ(records.num_operations, 5);
  ASSERT_EQ(records.host_waits.size(), 1u);
  EXPECT_STREQ(records.host_waits[0].label.operation, "row counts");
  EXPECT_EQ(records.host_waits[0].label.slot, 3);
  ASSERT_EQ(records.ranges.size(), 3u);
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(records.ranges[layer].name, "layer");
    EXPECT_EQ(records.ranges[layer].depth, 1);
    EXPECT_EQ(records.ranges[layer].num_operations, 2);
  }
  EXPECT_EQ(records.ranges[2].name, "step");
  EXPECT_EQ(records.ranges[2].depth, 0);
  EXPECT_EQ(records.ranges[2].num_operations, 5);
}

TEST(AsyncDevice, RangesThatStayOpenAreSeen) {
  EXPECT_NONFATAL_FAILURE(AsyncDevice(RunPolicy::kEager).PushRange("lane"), "the range lane is still open");
  AsyncDevice device(RunPolicy::kEager);
  EXPECT_THROW(device.PopRange(), DeviceError);
}

// Ranks of one process drive devices of their own, also while a kernel of one of them fails.
TEST(AsyncDevice, RanksAsThreads) {
  std::vector<std::thread> ranks;
  std::vector<std::string> seen(4);
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      for (int repeat = 0; repeat < 20 && seen[rank].empty(); ++repeat) {
        seen[rank] = RunRounds(RunPolicy::kRandom, rank * 100 + repeat, Maker::kKernel, Mistake::kNone);
        if (rank != 3) continue;
        Rig s(RunPolicy::kLate);
        const std::string error = ErrorOf([&] {
          s.LaunchAffine(nullptr, s.Array());
          s.device.Drain();
        });
        if (error.find("reads at an address outside all arrays") == std::string::npos) seen[rank] = error;
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(seen[rank], "") << rank;
}

}  // namespace
}  // namespace unipool
