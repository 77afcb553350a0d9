// Public kernels without a CUDA version refuse a CUDA stream before they touch memory: here all of it is out
// of reach. Which these are, and that all others have one, is checked by cuda/every_kernel_test.py.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "kernels/router_scores.h"
#include "kernels/top_k.h"

namespace unipool {
namespace {

class NoMemory : public DeviceMemory {
 public:
  void* Allocate(int64_t) override { return nullptr; }
  void Free(void*) override {}
  void Zero(void*, int64_t) override {}
};

class CudaRefusal : public testing::Test {
 protected:
  CudaRefusal() { CHECK(pages_ != MAP_FAILED); }
  ~CudaRefusal() override { munmap(pages_, kBytes); }
  Tensor OutOfReach(DType dtype, std::initializer_list<int64_t> shape) const {
    return Tensor(pages_, dtype, shape);
  }

  static constexpr size_t kBytes = 4096;
  void* const pages_ = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  NoMemory memory_;
  MemoryMeter meter_;
  Stream stream_{meter_, CudaQueue{.memory = &memory_}};
  const Tensor scores_ = OutOfReach(DType::kF32, {3, 8}), visible_ = OutOfReach(DType::kF32, {8}),
               sums_ = OutOfReach(DType::kF64, {8});
};

TEST_F(CudaRefusal, RouterScoresForward) {
  const Tensor sigma = OutOfReach(DType::kF32, {1});
  for (const RouterKind kind : kAllRouterKinds) {
    EXPECT_DEATH(RouterScoresForward(stream_, {.kind = kind}, scores_, sigma, visible_, scores_, sums_),
                 "RouterScoresForward has no CUDA kernel of its own: RouterForward contains it");
  }
}

TEST_F(CudaRefusal, TopK) {
  const Tensor experts = OutOfReach(DType::kI32, {3, 2}), weights = OutOfReach(DType::kF32, {3, 2}),
               counts = OutOfReach(DType::kI64, {8});
  EXPECT_DEATH(TopK(stream_, scores_, {visible_}, visible_, experts, weights, counts),
               "TopK has no CUDA kernel of its own: RouterForward contains it");
}

}  // namespace
}  // namespace unipool
