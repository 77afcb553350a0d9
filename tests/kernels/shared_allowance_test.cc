#include "kernels/cuda/shared_allowance.h"

#include <gtest/gtest.h>

namespace unipool::cuda {
namespace {

TEST(SharedAllowance, AsksOnceForAKernelAndADevice) {
  const char kernels[2] = {};
  SharedAllowance allowance;
  for (const int device : {0, 1}) {
    for (const char& kernel : kernels) {
      EXPECT_TRUE(allowance.MustAsk(&kernel, device, 50'000)) << device;
      EXPECT_FALSE(allowance.MustAsk(&kernel, device, 50'000)) << device;
    }
  }
}

TEST(SharedAllowance, AsksAgainForMoreAndKeepsTheMost) {
  const char kernel = 0, other = 0;
  SharedAllowance allowance;
  EXPECT_TRUE(allowance.MustAsk(&kernel, 0, 50'000));
  EXPECT_TRUE(allowance.MustAsk(&kernel, 0, 60'000));
  EXPECT_FALSE(allowance.MustAsk(&kernel, 0, 50'000));
  EXPECT_FALSE(allowance.MustAsk(&kernel, 0, 60'000));
  EXPECT_TRUE(allowance.MustAsk(&other, 0, 60'000));
  EXPECT_TRUE(allowance.MustAsk(&kernel, 1, 60'000));
}

}  // namespace
}  // namespace unipool::cuda
