// What the fake device says of memory: what operations may name, what is committed, what is freed when.
#include <gtest/gtest-spi.h>

#include "tests/device_emulation/device_rig.h"

namespace unipool {
namespace {

TEST(AsyncDeviceMemory, CopiesNameTheDevicesOwnMemory) {
  std::vector<float> pageable(kCount);
  const auto expect = [](const std::string& error, const char* text) {
    EXPECT_NE(error.find(text), std::string::npos) << error;
    EXPECT_NE(error.find("copy "), std::string::npos) << error;
  };
  for (const RunPolicy policy : kAllPolicies) {
    const auto copy = [&](auto to_from) {
      Rig s(policy);
      return ErrorOf([&] {
        const auto [to, from] = to_from(s);
        s.device.Copy(kCompute, to, from, kBytes);
      });
    };
    using Pair = std::pair<void*, void*>;
    expect(copy([&](Rig& s) { return Pair(s.Array(), pageable.data()); }), "nor pinned memory");
    expect(copy([&](Rig& s) { return Pair(pageable.data(), s.Array()); }), "nor pinned memory");
    expect(copy([&](Rig& s) { return Pair(s.Array(), s.Pinned() + 1); }),
           "behind the end of pinned memory 1");
    expect(copy([&](Rig& s) { return Pair(s.Array() + 1, s.Pinned()); }), "behind the end of buffer 1");
    expect(copy([&](Rig& s) {
             float* x = s.Array();
             return Pair(x, x + 1);
           }),
           "overlap");
    expect(copy([&](Rig& s) {
             void* reserved = s.device.Reserve(1 << 20);
             s.device.Commit(reserved, kBytes - 4);
             return Pair(reserved, s.Pinned());
           }),
           "of which 188 are committed");
    expect(copy([&](Rig& s) {
             float* x = s.Array();
             s.device.Free(x);
             return Pair(x, s.Pinned());
           }),
           "freed buffer 1");
  }
}

TEST(AsyncDeviceMemory, KernelsMeetTheEndOfWhatIsCommitted) {
  for (const RunPolicy policy : kAllPolicies) {
    Rig s(policy);
    auto* y = static_cast<float*>(s.device.Reserve(1 << 20));
    s.device.Commit(y, 4096);
    const char* page = reinterpret_cast<char*>(4095 + reinterpret_cast<uintptr_t>(y + 1024));
    auto* behind = reinterpret_cast<float*>(reinterpret_cast<uintptr_t>(page) / 4096 * 4096);
    const std::string error = ErrorOf([&] {
      s.LaunchAffine(s.Array(), behind);
      s.device.Drain();
    });
    EXPECT_NE(error.find("kernel Affine"), std::string::npos) << error;
    EXPECT_NE(error.find("of buffer 1 (1048576 bytes), of which 4096 are committed"), std::string::npos)
        << error;
  }
}

TEST(AsyncDeviceMemory, CommitKeepsAddressesAndContentAndDoesNotClearWhatIsNew) {
  Rig s(RunPolicy::kEager);
  auto* data = static_cast<unsigned char*>(s.device.Reserve(100'000));
  int64_t committed = 0;
  for (const int64_t bytes : {10, 70, 5'000, 4'999, 100'000}) {
    s.device.Commit(data, bytes);
    for (int64_t i = committed; i < bytes; ++i) ASSERT_EQ(data[i], 0xff) << i;
    for (int64_t i = 0; i < committed; ++i) ASSERT_EQ(data[i], 1 + i % 200) << i;
    for (int64_t i = committed; i < bytes; ++i) data[i] = static_cast<unsigned char>(1 + i % 200);
    committed = std::max(committed, bytes);
  }
  EXPECT_EQ(s.device.records().num_commits, 4);
  EXPECT_EQ(s.device.records().committed_bytes, 100'000);
  s.device.Free(data);
  EXPECT_EQ(s.device.records().committed_bytes, 0);
  EXPECT_EQ(s.device.records().peak_bytes, 100'000);
}

TEST(AsyncDeviceMemory, WritesBehindWhatIsCommittedAreSeenInTheEnd) {
  EXPECT_NONFATAL_FAILURE(
      {
        Rig s(RunPolicy::kEager);
        auto* data = static_cast<float*>(s.device.Reserve(1 << 20));
        s.device.Commit(data, 400);
        data[100] = 1;
      },
      "written at byte 400 of buffer 1");
}

TEST(AsyncDeviceMemory, FreedBeforeItsLastUser) {
  for (const RunPolicy policy : kAllPolicies) {
    for (const bool device_memory : {true, false}) {
      Rig s(policy);
      float *x = s.Array(), *pinned = s.Pinned();
      s.device.Copy(kCommunication, x, pinned, kBytes);
      // Free may be called by a destructor, so the next call throws.
      device_memory ? s.device.Free(x) : s.device.FreePinned(pinned);
      const std::string error = ErrorOf([&] { s.device.Drain(); });
      EXPECT_NE(error.find("was freed, but the host does not know that this is over: copy 0"),
                std::string::npos)
          << NameOf(policy) << ": " << error;
    }
    Rig s(policy);
    float *x = s.Array(), *pinned = s.Pinned();
    s.device.Copy(kCommunication, x, pinned, kBytes);
    s.device.Drain();
    s.device.Free(x);
    s.device.FreePinned(pinned);
    EXPECT_EQ(s.device.records().num_frees, 2);
  }
}

// A stream's scratch memory grows while kernels that use the old one are pending.
TEST(AsyncDeviceMemory, FreeEndsKernelsFirst) {
  for (const RunPolicy policy : kAllPolicies) {
    Rig s(policy);
    float *x = s.Array(), *y = s.Array();
    auto* scratch = static_cast<float*>(s.stream.Scratch(kBytes));
    s.LaunchAffine(x, scratch);
    s.LaunchAffine(scratch, y);
    auto* larger = static_cast<float*>(s.stream.Scratch(2 * kBytes));
    s.LaunchAffine(y, larger);
    s.device.Drain();
    EXPECT_EQ(larger[kCount - 1], 7);
  }
}

TEST(AsyncDeviceMemory, KernelsOnFreedMemoryAreSeen) {
  Rig s(RunPolicy::kLate);
  float *x = s.Array(), *y = s.Array();
  s.device.Free(x);
  s.LaunchAffine(x, y);
  const std::string error = ErrorOf([&] { s.device.Drain(); });
  EXPECT_NE(error.find("kernel Affine"), std::string::npos) << error;
  EXPECT_NE(error.find("freed buffer 1"), std::string::npos) << error;
}

}  // namespace
}  // namespace unipool
