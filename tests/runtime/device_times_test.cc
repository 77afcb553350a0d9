#include "runtime/device_times.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

namespace unipool {
namespace {

// A device on which an event is reached as soon as it is recorded, at a time that the test sets.
class SetTimeDevice : public DeviceContext {
 public:
  void* queue(DeviceQueue) override { return nullptr; }
  void* Allocate(int64_t bytes) override { return std::malloc(bytes); }
  void Free(void* data) override { std::free(data); }
  void Zero(void* data, int64_t bytes) override { std::memset(data, 0, bytes); }
  void* AllocatePinned(int64_t bytes) override { return std::calloc(1, bytes); }
  void FreePinned(void* data) override { std::free(data); }
  void Copy(DeviceQueue, void*, const void*, int64_t) override {}
  Event MakeEvent() override { return MakeTimedEvent(); }
  Event MakeTimedEvent() override {
    reached_.push_back(-1);
    return static_cast<Event>(reached_.size()) - 1;
  }
  void Record(Event event, DeviceQueue queue) override { reached_[event] = now_ns[static_cast<int>(queue)]; }
  void AwaitEvent(DeviceQueue, Event) override {}
  bool IsDone(Event) override {
    ++num_looks;
    return true;
  }
  int64_t NsBetween(Event from, Event to) override { return reached_[to] - reached_[from]; }
  void Drain() override {}
  void PushRange(const char*) override {}
  void PopRange() override {}
  int64_t num_events() const { return static_cast<int64_t>(reached_.size()); }

  int64_t now_ns[2] = {0, 0};  // by queue
  int num_looks = 0;

 private:
  std::vector<int64_t> reached_;
};

class DeviceTimesTest : public ::testing::Test {
 protected:
  void At(int64_t compute_ns, int64_t communication_ns) {
    device_.now_ns[static_cast<int>(DeviceQueue::kCompute)] = compute_ns;
    device_.now_ns[static_cast<int>(DeviceQueue::kCommunication)] = communication_ns;
  }
  SetTimeDevice device_;
  DeviceTimes times_{device_};
};

TEST_F(DeviceTimesTest, CountFromTheAnchorWhichBothClocksHaveSeen) {
  times_.Reserve(2);
  At(1000, 1000);
  int64_t host = 500;
  times_.BeginStep([&] { return host += 10; });
  EXPECT_EQ(times_.anchor().host_ns, 515);
  EXPECT_EQ(times_.anchor().uncertainty_ns, 5);
  At(1300, 1100);
  const int64_t exchange = times_.BeforeStart();
  At(1300, 1700);
  times_.AfterStart(exchange);
  At(1500, 1700);
  times_.BeforeWait(exchange);
  At(1750, 1700);
  times_.AfterWait(exchange);
  const int looks = device_.num_looks;
  times_.EndStep();
  EXPECT_GT(device_.num_looks, looks);
  const DeviceExchangeTimes read = times_.Read(exchange);
  EXPECT_EQ(read.begin_ns, 300) << "the compute queue had done what is to be sent";
  EXPECT_EQ(read.end_ns, 700);
  EXPECT_EQ(read.blocked_begin_ns, 500);
  EXPECT_EQ(read.blocked_end_ns, 750);
}

TEST_F(DeviceTimesTest, AnExchangeWaitsForNothingAndMakesNoEvents) {
  times_.Reserve(3);
  const int64_t events = device_.num_events();
  for (int step = 0; step < 3; ++step) {
    times_.BeginStep([] { return 0; });
    const int looks = device_.num_looks;
    for (int i = 0; i < 3; ++i) {
      const int64_t exchange = times_.BeforeStart();
      EXPECT_EQ(exchange, i);
      times_.AfterStart(exchange);
      times_.BeforeWait(exchange);
      times_.AfterWait(exchange);
    }
    EXPECT_EQ(times_.BeforeStart(), -1) << "there is no room for more";
    EXPECT_EQ(device_.num_looks, looks);
    times_.EndStep();
  }
  EXPECT_EQ(device_.num_events(), events);
}

TEST_F(DeviceTimesTest, WithoutRoomNothingIsAskedOfTheDevice) {
  times_.Reserve(0);
  times_.BeginStep([] { return 0; });
  EXPECT_EQ(times_.BeforeStart(), -1);
  times_.EndStep();
  EXPECT_EQ(device_.num_events(), 0);
  EXPECT_EQ(device_.num_looks, 0);
  EXPECT_EQ(times_.anchor().host_ns, -1);
}

}  // namespace
}  // namespace unipool
