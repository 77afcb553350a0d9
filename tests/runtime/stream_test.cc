#include "runtime/stream.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

namespace unipool {
namespace {

TEST(Stream, ScratchGrowsAndStays) {
  MemoryMeter meter;
  Stream stream(meter);
  void* large = stream.Scratch(10'000);
  EXPECT_EQ(stream.Scratch(500), large);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 10'000);
  stream.Scratch(20'000);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 20'000);
}

TEST(Stream, GrowingScratchIsNotCountedTwice) {
  MemoryMeter meter;
  Stream stream(meter);
  stream.Scratch(1000);
  stream.Scratch(3000);
  EXPECT_EQ(meter.peak_bytes(MemoryKind::kScratch), 3000);
}

// Counts what it gives.
class CountingDevice : public DeviceMemory {
 public:
  void* Allocate(int64_t bytes) override {
    most_at_once = std::max(most_at_once, ++arrays);
    return std::malloc(bytes);
  }
  void Free(void* data) override {
    --arrays;
    std::free(data);
  }
  void Zero(void* data, int64_t bytes) override { std::memset(data, 0, bytes); }
  int arrays = 0, most_at_once = 0;
};

TEST(Stream, ScratchOfADeviceIsItsMemoryAndFreedBeforeItGrows) {
  CountingDevice device;
  MemoryMeter meter(&device);
  {
    Stream stream(meter, CudaQueue{.memory = &device});
    EXPECT_EQ(stream.device(), Device::kCuda);
    void* small = stream.Scratch(1000);
    EXPECT_EQ(stream.Scratch(10), small);
    stream.Scratch(3000);
    EXPECT_EQ(device.most_at_once, 1);
    EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 3000);
  }
  EXPECT_EQ(device.arrays, 0);
}

TEST(KernelScope, RecordsOnlyWhereAProfileIsSet) {
  Profile profile;
  MemoryMeter meter;
  Stream stream(meter);
  { KernelScope unrecorded(stream, Op::kRope, 1, 1); }
  stream.set_profile(&profile);
  { KernelScope recorded(stream, Op::kRope, 10, 20); }
  EXPECT_EQ(profile.cost(Op::kRope).calls, 1);
  EXPECT_EQ(profile.cost(Op::kRope).flops, 10);
  EXPECT_EQ(profile.cost(Op::kRope).bytes, 20);
}

}  // namespace
}  // namespace unipool
