#include "kernels/cuda/shared_allowance.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace unipool::cuda {
namespace {

// What CUDA keeps for one kernel and device: the number that it was told last.
struct Attribute {
  std::atomic<int64_t> bytes = 0;
  std::atomic<int> num_asked = 0;
  auto Asking(int64_t wanted) {
    return [this, wanted] {
      bytes = wanted;
      ++num_asked;
    };
  }
};

TEST(SharedAllowance, AsksOnceForAKernelAndADevice) {
  const char kernels[2] = {};
  ProcessAllowance of_process;
  SharedAllowance allowance(of_process);
  int num_expected = 0;
  Attribute attribute;
  for (const int device : {0, 1}) {
    for (const char& kernel : kernels) {
      allowance.Allow(&kernel, device, 50'000, attribute.Asking(50'000));
      EXPECT_EQ(attribute.num_asked, ++num_expected) << device;
      allowance.Allow(&kernel, device, 50'000, attribute.Asking(50'000));
      EXPECT_EQ(attribute.num_asked, num_expected) << device;
    }
  }
}

TEST(SharedAllowance, AsksAgainForMoreAndKeepsTheMost) {
  const char kernel = 0;
  ProcessAllowance of_process;
  SharedAllowance allowance(of_process);
  Attribute attribute;
  for (const int64_t bytes : {50'000, 60'000, 50'000, 60'000})
    allowance.Allow(&kernel, 0, bytes, attribute.Asking(bytes));
  EXPECT_EQ(attribute.num_asked, 2);
  EXPECT_EQ(attribute.bytes, 60'000);
}

// The number is the process's: a thread that needs less must not lower what another was allowed.
TEST(SharedAllowance, AThreadDoesNotLowerWhatAnotherHas) {
  const char kernel = 0;
  ProcessAllowance of_process;
  SharedAllowance first(of_process), second(of_process);
  Attribute attribute;
  first.Allow(&kernel, 0, 60'000, attribute.Asking(60'000));
  second.Allow(&kernel, 0, 50'000, attribute.Asking(50'000));
  EXPECT_EQ(attribute.bytes, 60'000);
  EXPECT_EQ(attribute.num_asked, 1);
}

// In whichever order threads come, each finds at least its own bytes allowed.
TEST(SharedAllowance, ThreadsThatAskAtOnce) {
  const char kernel = 0;
  for (int round = 0; round < 200; ++round) {
    ProcessAllowance of_process;
    Attribute attribute;
    std::atomic<int> num_too_few = 0, num_ready = 0;
    const auto launch = [&](int64_t bytes) {
      SharedAllowance allowance(of_process);
      ++num_ready;
      while (num_ready < 4) std::this_thread::yield();
      for (int64_t more = 0; more < 40; ++more) {
        allowance.Allow(&kernel, 0, bytes + 7 * more, attribute.Asking(bytes + 7 * more));
        num_too_few += attribute.bytes < bytes + 7 * more;
      }
    };
    std::vector<std::thread> threads;
    for (const int64_t bytes : {40'100, 40'000, 40'050, 40'007}) threads.emplace_back(launch, bytes);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(num_too_few, 0);
    EXPECT_EQ(attribute.bytes, 40'100 + 7 * 39);
  }
}

}  // namespace
}  // namespace unipool::cuda
