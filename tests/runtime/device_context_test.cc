// What a device context does itself, whatever the device: waits of the host, transfers in pieces, ranges.
#include "runtime/device_context.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <numeric>

#include "runtime/format.h"

namespace unipool {
namespace {

// A device in host memory. Copies are done in Drain, and an event is done when it has been asked for often
// enough.
class TestDevice : public DeviceContext {
 public:
  ~TestDevice() override {
    for (void* data : pinned_) std::free(data);
  }
  void* queue(DeviceQueue) override { return nullptr; }
  void* Allocate(int64_t bytes) override { return std::malloc(bytes); }
  void Free(void* data) override { std::free(data); }
  void Zero(void* data, int64_t bytes) override { std::memset(data, 0, bytes); }
  void* AllocatePinned(int64_t bytes) override {
    pinned_bytes = bytes;
    ++num_pinned;
    return pinned_.emplace_back(std::calloc(bytes, 1));
  }
  void FreePinned(void* data) override {
    --num_pinned;
    std::erase(pinned_, data);
    std::free(data);
  }
  void Copy(DeviceQueue, void* to, const void* from, int64_t bytes) override {
    ++num_copies;
    pending_.push_back([=] { std::memcpy(to, from, bytes); });
  }
  Event MakeEvent() override { return 0; }
  void Record(Event, DeviceQueue) override {}
  void AwaitEvent(DeviceQueue, Event) override {}
  bool IsDone(Event) override {
    words += WaitingFor();
    return is_done ? is_done() : true;
  }
  Event MakeTimedEvent() override { return 0; }
  int64_t NsBetween(Event, Event) override { return 0; }
  void Drain() override {
    for (const auto& copy : pending_) copy();
    pending_.clear();
  }
  void PushRange(const char* name) override { ranges += Format("<%s", name); }
  void PopRange() override { ranges += ">"; }

  std::function<bool()> is_done;
  std::string words, ranges;
  int num_pinned = 0, num_copies = 0;
  int64_t pinned_bytes = 0;

 private:
  std::vector<std::function<void()>> pending_;
  std::vector<void*> pinned_;
};

TEST(DeviceContext, AWaitPollsAndIsWatched) {
  TestDevice device;
  int polls = 0, watches = 0, removed = 0;
  device.AddPoll([&] { ++polls; });
  device.RemovePoll(device.AddPoll([&] { ++removed; }));
  device.RemoveWatch(device.AddWatch([&](const ExchangeLabel&, double) { ++removed; }));
  double last = 0;
  device.AddWatch([&](const ExchangeLabel& label, double waited_seconds) {
    ++watches;
    EXPECT_STREQ(label.operation, "row counts");
    EXPECT_GT(waited_seconds, last + 0.015);
    last = waited_seconds;
  });
  device.is_done = [&] { return watches == 2; };
  device.WaitOnHost(0, {.operation = "row counts", .step = 7, .slot = 3});
  EXPECT_GT(polls, watches);
  EXPECT_EQ(watches, 2);
  EXPECT_EQ(removed, 0);
}

TEST(DeviceContext, TellsWhatTheHostWaitsFor) {
  TestDevice device;
  device.IsDone(0);
  EXPECT_EQ(device.words, "") << "outside of a wait";
  device.WaitOnHost(0, {.operation = "row counts", .step = 7, .slot = 3});
  EXPECT_EQ(device.words, ", while the host waits for 'row counts', step 7, slot 3");
  device.words.clear();
  device.IsDone(0);
  EXPECT_EQ(device.words, "") << "behind a wait";
}

TEST(DeviceContext, MovesAnySizeThroughPinnedPieces) {
  for (const int64_t bytes : {int64_t{0}, int64_t{5}, int64_t{16} << 20, (int64_t{40} << 20) + 3}) {
    TestDevice device;
    std::vector<char> there(bytes), out(bytes), back(bytes, '?');
    for (int64_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(i * 31 >> 3);
    device.Upload(there.data(), out.data(), bytes);
    EXPECT_EQ(there, out);
    device.Download(back.data(), there.data(), bytes);
    EXPECT_EQ(back, out);
    EXPECT_EQ(device.num_pinned, bytes > 0) << "one piece, taken once";
    EXPECT_LE(device.pinned_bytes, int64_t{16} << 20);
    EXPECT_EQ(device.num_copies, 2 * ((bytes + (16 << 20) - 1) / (16 << 20)));
  }
}

TEST(DeviceRange, IsOpenWhileItLives) {
  TestDevice device;
  {
    const DeviceRange step(&device, "step");
    const DeviceRange slot(&device, "slot");
    const DeviceRange nowhere(nullptr, "nowhere");
  }
  EXPECT_EQ(device.ranges, "<step<slot>>");
}

}  // namespace
}  // namespace unipool
