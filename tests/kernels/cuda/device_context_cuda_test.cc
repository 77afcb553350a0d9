// What runtime/device_context.h promises, of the CUDA device and of the fake one alike.
#include <cstring>

#include "kernels/rank_sum.h"
#include "kernels/reduce.h"
#include "runtime/device_context.h"
#include "tests/fresh_seed.h"
#include "tests/kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

constexpr DeviceQueue kCompute = DeviceQueue::kCompute, kCommunication = DeviceQueue::kCommunication;

class CudaContext : public CudaTest {
 protected:
  // `body` with a fresh device per run.
  template <class Body>
  void ForEachRun(Body body) {
    ASSERT_GT(NumCudaRuns(), 0);
    for (int run = 0; run < NumCudaRuns(); ++run) {
      SCOPED_TRACE(CudaRunName(run));
      SCOPED_TRACE(SeedText());
      const std::unique_ptr<DeviceContext> device = MakeTestContext(run);
      body(*device);
      device->Drain();
    }
  }
};

std::vector<char> RandomBytes(std::mt19937_64& random, int64_t bytes) {
  std::vector<char> data(bytes);
  for (char& byte : data) byte = static_cast<char>(random());
  return data;
}

TEST_F(CudaContext, CommitKeepsAddressesAndContentAndZeroClears) {
  ForEachRun([](DeviceContext& device) {
    std::mt19937_64 random(FreshSeed());
    for (const int64_t max_bytes : {int64_t{40'000}, int64_t{24} << 20}) {
      void* const data = device.Reserve(max_bytes);
      std::vector<char> expected, found(max_bytes);
      for (const int64_t bytes : {max_bytes / 5000, max_bytes / 3, max_bytes / 2 + 13, max_bytes}) {
        device.Commit(data, bytes);
        device.Commit(data, bytes / 2);  // less than there is: nothing
        const auto old_bytes = static_cast<int64_t>(expected.size());
        device.Zero(static_cast<char*>(data) + old_bytes, bytes - old_bytes);
        expected.resize(bytes, 0);
        device.Download(found.data(), data, bytes);
        EXPECT_EQ(std::memcmp(found.data(), expected.data(), bytes), 0) << bytes << " of " << max_bytes;
        expected = RandomBytes(random, bytes);
        device.Upload(data, expected.data(), bytes);
      }
      EXPECT_GE(device.peak_bytes(), max_bytes);
      EXPECT_LT(device.peak_bytes(), max_bytes + (8 << 20));
      device.Free(data);
    }
  });
}

TEST_F(CudaContext, PinnedMemoryIsZeroAndCopiesArrive) {
  ForEachRun([](DeviceContext& device) {
    std::mt19937_64 random(FreshSeed());
    for (const int64_t bytes : {int64_t{1}, int64_t{1000}, int64_t{3} << 20}) {
      auto* in = static_cast<char*>(device.AllocatePinned(bytes));
      auto* out = static_cast<char*>(device.AllocatePinned(bytes));
      EXPECT_EQ(std::count(in, in + bytes, 0), bytes);
      const std::vector<char> expected = RandomBytes(random, bytes);
      std::memcpy(in, expected.data(), bytes);
      void *const a = device.Allocate(bytes), *const b = device.Allocate(bytes);
      device.Copy(kCommunication, a, in, bytes);
      device.Copy(kCommunication, b, a, bytes);
      device.Copy(kCommunication, out, b, bytes);
      device.Copy(kCommunication, out, nullptr, 0);  // nothing
      device.Drain();
      EXPECT_EQ(std::memcmp(out, expected.data(), bytes), 0);
      for (void* data : {a, b}) device.Free(data);
      for (void* data : {in, out}) device.FreePinned(data);
    }
  });
}

TEST_F(CudaContext, EventsThatNobodyRecordedAreDone) {
  ForEachRun([](DeviceContext& device) {
    const auto event = device.MakeEvent();
    EXPECT_TRUE(device.IsDone(event));
    device.AwaitEvent(kCompute, event);
    device.WaitOnHost(event, {});
    device.Record(event, kCompute);
    device.WaitOnHost(event, {});
    EXPECT_TRUE(device.IsDone(event));
  });
}

TEST_F(CudaContext, TimedEventsTellWhenTheyWereReached) {
  ForEachRun([](DeviceContext& device) {
    constexpr int64_t kBytes = int64_t{4} << 20;
    void *const a = device.Allocate(kBytes), *const b = device.Allocate(kBytes);
    const auto begin = device.MakeTimedEvent(), middle = device.MakeTimedEvent(),
               end = device.MakeTimedEvent();
    for (int round = 0; round < 2; ++round) {
      device.Record(begin, kCompute);
      device.Copy(kCompute, b, a, kBytes);
      device.Record(middle, kCompute);
      device.AwaitEvent(kCommunication, middle);
      for (int i = 0; i < 8; ++i) device.Copy(kCommunication, a, b, kBytes);
      device.Record(end, kCommunication);
      device.WaitOnHost(end, {});
      EXPECT_GT(device.NsBetween(begin, middle), 0);
      EXPECT_GT(device.NsBetween(middle, end), 0) << "of another queue";
      EXPECT_NEAR(static_cast<double>(device.NsBetween(begin, middle) + device.NsBetween(middle, end)),
                  static_cast<double>(device.NsBetween(begin, end)), 2000);
      EXPECT_EQ(device.NsBetween(end, begin), -device.NsBetween(begin, end));
      EXPECT_LT(device.NsBetween(begin, end), int64_t{1'000'000'000}) << "nanoseconds";
    }
    for (void* data : {a, b}) device.Free(data);
  });
}

// Rounds of: copy in (communication, a round ahead), a chain of kernels (compute), copy out (communication).
// Arrays are used again, so that each queue must wait for the other one in both directions.
TEST_F(CudaContext, EventsOrderTwoQueues) {
  ForEachRun([](DeviceContext& device) {
    constexpr int kRounds = 5, kAdditions = 8;
    constexpr int64_t kCount = 30'000, kBytes = kCount * int64_t{sizeof(float)};
    MemoryMeter meter(&device);
    Stream stream(meter, CudaQueue{.stream = device.queue(kCompute), .memory = &device});
    const Buffer memory = Buffer::Allocate(meter, MemoryKind::kActivations, 3 * kBytes);
    const Tensor arrays = memory.View(DType::kF32, {3, kCount});
    const Tensor x[2] = {arrays.Rows(0, 1), arrays.Rows(1, 1)}, y = arrays.Rows(2, 1);
    auto* in = static_cast<float*>(device.AllocatePinned(kRounds * kBytes));
    auto* out = static_cast<float*>(device.AllocatePinned(kRounds * kBytes));
    for (int64_t i = 0; i < kRounds * kCount; ++i) in[i] = static_cast<float>(i);
    const DeviceContext::Event filled[2] = {device.MakeEvent(), device.MakeEvent()};
    const auto added = device.MakeEvent(), sent = device.MakeEvent();
    const auto copy_in = [&](int round) {
      device.Copy(kCommunication, x[round % 2].data, in + round * kCount, kBytes);
      device.Record(filled[round % 2], kCommunication);
    };
    copy_in(0);
    for (int round = 0; round < kRounds; ++round) {
      DeviceRange range(&device, "round");
      if (round + 1 < kRounds) copy_in(round + 1);
      device.AwaitEvent(kCompute, filled[round % 2]);
      device.AwaitEvent(kCompute, sent);
      Fill(stream, y, 1);
      for (int i = 0; i < kAdditions; ++i)
        SumInRankOrder(stream, y, x[round % 2].data, kBytes, 1, 2);  // y += x
      device.Record(added, kCompute);
      device.AwaitEvent(kCommunication, added);
      device.Copy(kCommunication, out + round * kCount, y.data, kBytes);
      device.Record(sent, kCommunication);
    }
    device.WaitOnHost(sent, {.operation = "the end of a test"});
    for (int64_t i = 0; i < kRounds * kCount; ++i) {
      ASSERT_EQ(out[i], 1 + kAdditions * static_cast<float>(i)) << "round " << i / kCount;
    }
    device.Drain();
  });
}

}  // namespace
}  // namespace unipool
