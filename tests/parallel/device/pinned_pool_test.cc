#include "parallel/pinned_pool.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/parallel/device/device_rank.h"

namespace unipool {
namespace {

using emulation::kAllPolicies;
using emulation::RunPolicy;

constexpr ExchangeLabel kLabel{.operation = "test", .step = 4, .slot = 2};
constexpr int64_t kMiB = int64_t{1} << 20;

struct Pool {
  explicit Pool(RunPolicy policy) : device(policy, 1), pool(device.context, host_memory) {}
  // Takes a piece, lets the device read it, gives it back.
  PinnedPool::Piece& Pass(int64_t bytes, void* to) {
    PinnedPool::Piece& piece = pool.Take(bytes, kLabel);
    EXPECT_GE(piece.bytes, bytes);
    std::memset(piece.data, 1, bytes);
    device.context.Copy(DeviceQueue::kCommunication, to, piece.data, bytes);
    device.context.Record(piece.read, DeviceQueue::kCommunication);
    pool.Give(piece);
    return piece;
  }
  int64_t num_allocations() const { return device.context.records().num_pinned_allocations; }

  DeviceRank device;
  MemoryMeter host_memory;
  PinnedPool pool;
};

// What is under way at once has memory of its own, and it is counted and given back.
TEST(PinnedPool, PiecesAreApartAndCounted) {
  MemoryMeter host_memory;
  DeviceRank device(RunPolicy::kLate, 1);
  {
    PinnedPool pool(device.context, host_memory);
    std::vector<PinnedPool::Piece*> pieces;
    for (int i = 0; i < 5; ++i) {
      pieces.push_back(&pool.Take(100'000 + i, kLabel));
      std::memset(pieces[i]->data, i, pieces[i]->bytes);
    }
    int64_t bytes = 0;
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(pieces[i]->data[0], i);
      EXPECT_EQ(pieces[i]->data[pieces[i]->bytes - 1], i);
      bytes += pieces[i]->bytes;
    }
    EXPECT_EQ(pool.allocated_bytes(), bytes);
    EXPECT_EQ(host_memory.current_bytes(MemoryKind::kExchange), bytes);
    EXPECT_EQ(device.context.records().num_frees, 0);
  }
  EXPECT_EQ(host_memory.current_bytes(MemoryKind::kExchange), 0);
}

// A piece that a copy still reads is not given out before that copy is done.
TEST(PinnedPool, APieceWaitsForItsReader) {
  for (const RunPolicy policy : kAllPolicies) {
    Pool p(policy);
    const Buffer memory = p.device.Allocate(1000);
    for (int i = 0; i < 20; ++i) {
      PinnedPool::Piece& piece = p.pool.Take(1000, kLabel);
      EXPECT_TRUE(p.device.context.IsDone(piece.read)) << NameOf(policy) << ", turn " << i;
      std::memset(piece.data, i, 1000);  // the device sees a change under a pending copy, and fails
      p.device.context.Copy(DeviceQueue::kCommunication, memory.data(), piece.data, 1000);
      p.device.context.Record(piece.read, DeviceQueue::kCommunication);
      p.pool.Give(piece);
    }
    ASSERT_FALSE(p.device.context.records().host_waits.empty());
    EXPECT_STREQ(p.device.context.records().host_waits.back().label.operation, "test");
    p.device.context.Drain();
  }
}

// The second of two equal steps allocates nothing, and what was allocated does not depend on how far the
// device has come.
TEST(PinnedPool, StepsThatAskForTheSameAllocateNothing) {
  int64_t expected_bytes = 0;
  for (const RunPolicy policy : kAllPolicies) {
    Pool p(policy);
    const Buffer memory = p.device.Allocate(4 * kMiB);
    const auto step = [&] {
      for (const int64_t bytes : {70'000, 3'000'000, 100'000, 2'900'000, 60'000, 3'100'000}) {
        p.Pass(bytes, memory.data());
      }
    };
    step();
    step();
    const int64_t allocations = p.num_allocations(), bytes = p.pool.allocated_bytes();
    for (int i = 0; i < 3; ++i) step();
    EXPECT_EQ(p.num_allocations(), allocations) << NameOf(policy);
    EXPECT_EQ(p.pool.allocated_bytes(), bytes) << NameOf(policy);
    if (expected_bytes == 0) expected_bytes = bytes;
    EXPECT_EQ(bytes, expected_bytes) << NameOf(policy);
    p.device.context.Drain();
  }
}

// Of two resting pieces that fit, the newest is likely to be still read: it rests, and the other is taken.
TEST(PinnedPool, TheOneThatRestsLongestIsTaken) {
  Pool p(RunPolicy::kEager);
  PinnedPool::Piece& first = p.pool.Take(kMiB, kLabel);
  PinnedPool::Piece& second = p.pool.Take(kMiB, kLabel);
  p.pool.Give(second);
  p.pool.Give(first);
  EXPECT_EQ(&p.pool.Take(kMiB, kLabel), &second);
  const int64_t allocations = p.num_allocations();
  PinnedPool::Piece& third = p.pool.Take(kMiB, kLabel);  // one that fits rests, too few to take it
  EXPECT_NE(&third, &first);
  EXPECT_EQ(p.num_allocations(), allocations + 1);
}

// The smallest that fits, and none that is far too large.
TEST(PinnedPool, SmallExchangesLeaveLargePiecesAlone) {
  Pool p(RunPolicy::kEager);
  std::vector<PinnedPool::Piece*> large, medium;
  for (int i = 0; i < 3; ++i) large.push_back(&p.pool.Take(32 * kMiB, kLabel));
  for (int i = 0; i < 3; ++i) medium.push_back(&p.pool.Take(12 * kMiB, kLabel));
  for (PinnedPool::Piece* piece : large) p.pool.Give(*piece);
  for (PinnedPool::Piece* piece : medium) p.pool.Give(*piece);
  EXPECT_EQ(&p.pool.Take(10 * kMiB, kLabel), medium[0]);
  EXPECT_LT(p.pool.Take(2 * kMiB, kLabel).bytes, 12 * kMiB);  // a new one
}

// A piece that is a little too small grows, so that sizes which vary make no ever longer list.
TEST(PinnedPool, APieceThatIsALittleTooSmallGrows) {
  Pool p(RunPolicy::kEager);
  PinnedPool::Piece& piece = p.pool.Take(8 * kMiB, kLabel);
  p.pool.Give(piece);
  EXPECT_EQ(&p.pool.Take(9 * kMiB, kLabel), &piece);
  EXPECT_GE(piece.bytes, 9 * kMiB);
  EXPECT_EQ(p.pool.allocated_bytes(), piece.bytes);
}

// Before it grows, its memory is freed. So the copy that reads it has to be done.
TEST(PinnedPool, APieceThatGrowsWaitsForItsReader) {
  Pool p(RunPolicy::kLate);
  const Buffer memory = p.device.Allocate(8 * kMiB);
  const PinnedPool::Piece& piece = p.Pass(8 * kMiB, memory.data());
  EXPECT_TRUE(p.device.context.records().host_waits.empty());
  EXPECT_EQ(&p.pool.Take(9 * kMiB, kLabel), &piece);
  ASSERT_EQ(p.device.context.records().host_waits.size(), 1U);
  EXPECT_EQ(p.device.context.records().host_waits[0].event, piece.read);
  p.device.context.Drain();
}

}  // namespace
}  // namespace unipool
