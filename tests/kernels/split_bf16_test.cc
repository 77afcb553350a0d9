#include "kernels/split_bf16.h"

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

// What it computes on CUDA is proven in cuda/split_bf16_cuda_test.cc.
TEST(SplitBf16DeathTest, RefusesTheCpu) {
  TestStream stream;
  const Array<float> x({4}, 1), high({2}, 0), low({2}, 0);
  const Tensor upper(high.tensor().data, DType::kBF16, {4}), lower(low.tensor().data, DType::kBF16, {4});
  EXPECT_DEATH(SplitBf16(stream, x, upper, lower), "SplitBf16 runs on CUDA alone");
}

}  // namespace
}  // namespace unipool
