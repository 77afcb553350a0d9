#include "runtime/buffer.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>

namespace unipool {
namespace {

// Pages of the buffer that are memory now.
int64_t TouchedPages(const Buffer& buffer) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> resident((buffer.max_bytes() + page - 1) / page);
  EXPECT_EQ(mincore(buffer.data(), buffer.max_bytes(), resident.data()), 0);
  int64_t count = 0;
  for (const unsigned char r : resident) count += r & 1;
  return count;
}

TEST(Buffer, ReserveTakesMemoryOnlyWhereItIsTouched) {
  MemoryMeter meter;
  Buffer buffer = Buffer::Reserve(meter, MemoryKind::kExchange, int64_t{8} << 30);
  EXPECT_EQ(TouchedPages(buffer), 0);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 0);
  buffer.Use(100'000);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 100'000);
  std::memset(buffer.data(), 1, 100'000);
  EXPECT_GE(TouchedPages(buffer), 25);
  EXPECT_LE(TouchedPages(buffer), 1024) << "at most two large pages";
  buffer.Use(50'000);  // never falls
  EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 100'000);
}

TEST(Buffer, TakeAheadTakesThePagesOfABufferInUse) {
  MemoryMeter meter;
  for (const int64_t max_bytes : {int64_t{3} << 20, int64_t{1} << 30}) {  // small pages, large pages
    Buffer buffer = Buffer::Reserve(meter, MemoryKind::kExchange, max_bytes);
    buffer.TakeAhead(1 << 20);
    EXPECT_EQ(TouchedPages(buffer), 0) << "nobody has used it";
    EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 0);
    buffer.Use(1000);
    std::memset(buffer.data(), 7, 1000);
    buffer.TakeAhead(1 << 20);
    EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 1000) << "counted when it is in use";
    EXPECT_EQ(meter.ahead_bytes(), (1 << 20) - 1000);
    EXPECT_GE(TouchedPages(buffer), (1 << 20) / sysconf(_SC_PAGESIZE));
    EXPECT_LE(TouchedPages(buffer) * sysconf(_SC_PAGESIZE), 4 << 20) << "two large pages";
    const char* data = static_cast<char*>(buffer.data());
    EXPECT_EQ(std::count(data, data + (1 << 20), 7), 1000);
    buffer.TakeAhead(10);  // never falls
    EXPECT_EQ(meter.ahead_bytes(), (1 << 20) - 1000);
    buffer.Use(2000);
    EXPECT_EQ(meter.ahead_bytes(), (1 << 20) - 2000);
    buffer.TakeAhead((1 << 20) + 50);
    EXPECT_EQ(meter.ahead_bytes(), (1 << 20) - 1950);
    const Buffer moved = std::move(buffer);
    EXPECT_EQ(meter.ahead_bytes(), (1 << 20) - 1950);
    buffer = Buffer::Reserve(meter, MemoryKind::kExchange, max_bytes);
    buffer.Use(1);
    buffer.TakeAhead(100);
    buffer.Use(200);  // past what was taken
    EXPECT_EQ(meter.ahead_bytes(), (1 << 20) - 1950);
  }
  EXPECT_EQ(meter.ahead_bytes(), 0) << "the buffers are gone";
  Buffer buffer = Buffer::Allocate(meter, MemoryKind::kExchange, 100'000);
  buffer.TakeAhead(1 << 20);  // cut
  EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 100'000);
  EXPECT_EQ(TouchedPages(buffer), 0);
  buffer.Populate({50'000, 50'001});
  EXPECT_EQ(TouchedPages(buffer), 1);
  EXPECT_DEATH(buffer.Populate({0, 100'001}), "100001 of 100000");
}

TEST(Buffer, AllocateIsZeroedAlignedAndCounted) {
  MemoryMeter meter;
  for (const int64_t bytes : {1, 63, 4096, 5'000'001}) {
    Buffer buffer = Buffer::Allocate(meter, MemoryKind::kScratch, bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    int64_t nonzero = 0;
    for (int64_t i = 0; i < bytes; ++i) nonzero += static_cast<char*>(buffer.data())[i] != 0;
    EXPECT_EQ(nonzero, 0);
    EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), bytes);
  }
  EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 0);
  EXPECT_EQ(meter.peak_bytes(MemoryKind::kScratch), 5'000'001);
}

TEST(MemoryMeter, PeakOfTheSumIsNotTheSumOfPeaks) {
  MemoryMeter meter;
  { Buffer a = Buffer::Allocate(meter, MemoryKind::kGradients, 1000); }
  Buffer b = Buffer::Allocate(meter, MemoryKind::kParameters, 600);
  Buffer c = Buffer::Allocate(meter, MemoryKind::kOptimizer, 700);
  EXPECT_EQ(meter.peak_bytes(), 1300);
  EXPECT_EQ(meter.peak_bytes(MemoryKind::kGradients), 1000);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kGradients), 0);
  EXPECT_EQ(meter.parts_at_peak(), (MemoryParts{600, 0, 700, 0, 0, 0}));
  { Buffer d = Buffer::Allocate(meter, MemoryKind::kScratch, 1); }
  EXPECT_EQ(meter.parts_at_peak(), (MemoryParts{600, 0, 700, 0, 0, 1}))
      << "as of the peak, though it is gone";
}

TEST(Buffer, MovesAndIsCountedOnce) {
  MemoryMeter meter;
  Buffer a = Buffer::Allocate(meter, MemoryKind::kScratch, 100);
  void* data = a.data();
  Buffer b = std::move(a);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 100);
  b = Buffer::Allocate(meter, MemoryKind::kScratch, 30);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 30);
}

TEST(BufferDeathTest, RefusesToGrow) {
  MemoryMeter meter;
  Buffer buffer = Buffer::Reserve(meter, MemoryKind::kScratch, 100);
  EXPECT_DEATH(buffer.Use(101), "101 vs. 100");
  EXPECT_DEATH(buffer.View(DType::kF32, {26}), "\\[26\\]");
}

// A device whose memory is the host's, and which has no address space to reserve.
class PlainDevice : public DeviceMemory {
 public:
  void* Allocate(int64_t bytes) override {
    journal += Format("allocate %d;", bytes);
    return std::malloc(bytes);
  }
  void Free(void* data) override {
    journal += "free;";
    std::free(data);
  }
  void Zero(void*, int64_t bytes) override { journal += Format("zero %d;", bytes); }
  std::string journal;
};

TEST(Buffer, OfADeviceIsTheDevicesMemory) {
  PlainDevice device;
  MemoryMeter meter(&device);
  {
    Buffer buffer = Buffer::Reserve(meter, MemoryKind::kExchange, 1000);
    EXPECT_EQ(device.journal, "allocate 1000;");
    EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 0);
    EXPECT_EQ(buffer.UseView(DType::kF32, {5, 3}).ShapeString(), "[5, 3]");
    EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 60);
    const Buffer empty = Buffer::Allocate(meter, MemoryKind::kExchange, 0);
    EXPECT_EQ(empty.data(), nullptr);
  }
  EXPECT_EQ(device.journal, "allocate 1000;free;");
  EXPECT_EQ(meter.current_bytes(MemoryKind::kExchange), 0);
}

// What grows while the device works is not cleared: that would stop the host.
TEST(Buffer, OfADeviceIsClearedWhereItIsAllocatedAtOnce) {
  PlainDevice device;
  MemoryMeter meter(&device);
  { const Buffer buffer = Buffer::Allocate(meter, MemoryKind::kOptimizer, 60); }
  EXPECT_EQ(device.journal, "allocate 60;zero 60;free;");
}

TEST(MemoryKind, HasANameEach) {
  std::set<std::string> names;
  for (int i = 0; i < kNumMemoryKinds; ++i) names.insert(NameOf(static_cast<MemoryKind>(i)));
  EXPECT_EQ(names.size(), size_t{kNumMemoryKinds});
  EXPECT_STREQ(NameOf(MemoryKind::kParameters), "weights");
  EXPECT_STREQ(NameOf(MemoryKind::kScratch), "scratch");
}

}  // namespace
}  // namespace unipool
