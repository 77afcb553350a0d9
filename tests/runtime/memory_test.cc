// Buffers, their meter, tensor views, streams and profiles.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "runtime/stream.h"

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

TEST(Stream, GrowingScratchIsNotCountedTwice) {
  MemoryMeter meter;
  Stream stream(meter);
  stream.Scratch(1000);
  stream.Scratch(3000);
  EXPECT_EQ(meter.peak_bytes(MemoryKind::kScratch), 3000);
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

TEST(Tensor, RowsAndReshapeAreViews) {
  std::vector<float> numbers(24);
  for (int i = 0; i < 24; ++i) numbers[i] = static_cast<float>(i);
  const Tensor all(numbers.data(), DType::kF32, {4, 2, 3});
  EXPECT_EQ(all.size(), 24);
  EXPECT_EQ(all.bytes(), 96);
  const Tensor rows = all.Rows(1, 2);
  EXPECT_EQ(rows.ShapeString(), "[2, 2, 3]");
  EXPECT_EQ(rows.as<float>()[0], 6);
  EXPECT_EQ(all.Rows(4, 0).size(), 0);
  EXPECT_EQ(all.Reshape({6, 4}).Rows(5, 1).as<float>()[3], 23);
  EXPECT_DEATH(all.Rows(3, 2), "rows 3 \\+ 2 of \\[4, 2, 3\\]");
  EXPECT_DEATH(all.Reshape({5, 5}), "24");
}

TEST(Stream, ScratchGrowsAndStays) {
  MemoryMeter meter;
  Stream stream(meter);
  void* large = stream.Scratch(10'000);
  EXPECT_EQ(stream.Scratch(500), large);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 10'000);
  stream.Scratch(20'000);
  EXPECT_EQ(meter.current_bytes(MemoryKind::kScratch), 20'000);
}

TEST(Profile, FloorIsTheLongerOfArithmeticAndBytesPerCall) {
  Profile profile(1e9, 1e6);
  profile.Add(Op::kGemm, 3.0, 2e9, 1e6);     // arithmetic: 2 s
  profile.Add(Op::kGemm, 7.0, 1e9, 5e6);     // bytes: 5 s
  profile.Add(Op::kSwiglu, 0.5, 0, 0.25e6);  // bytes: 0.25 s
  EXPECT_EQ(profile.cost(Op::kGemm).calls, 2);
  EXPECT_DOUBLE_EQ(profile.cost(Op::kGemm).seconds, 10);
  EXPECT_DOUBLE_EQ(profile.cost(Op::kGemm).floor_seconds, 7);
  EXPECT_DOUBLE_EQ(profile.Total().floor_seconds, 7.25);

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
