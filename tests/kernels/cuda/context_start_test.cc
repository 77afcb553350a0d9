// Where there is a GPU a rank gets it, where there is none its user reads why not; the program itself has
// started without a driver.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "kernels/cuda_context.h"

namespace unipool {
namespace {

TEST(CudaContextStart, StartsOrSaysWhyNot) {
  int count = 0;
  const bool has_device = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  cudaGetLastError();
  try {
    const std::unique_ptr<DeviceContext> context = MakeCudaContext(0), again = MakeCudaContext(count);
    EXPECT_TRUE(has_device);
    EXPECT_EQ(context->id(), again->id()) << "ranks go round the GPUs";
    const CudaDeviceFacts facts = AskCudaDevice(0);
    EXPECT_EQ(facts.num_devices, count);
    EXPECT_EQ(facts.id, context->id());
    EXPECT_GT(facts.total_bytes, facts.free_bytes);
  } catch (const UserError& error) {
    EXPECT_FALSE(has_device) << error.what();
    const std::string text = error.what();
    EXPECT_EQ(text.find("device CUDA: "), 0u) << text;
    EXPECT_TRUE(text.find("driver") != std::string::npos || text.find("no GPU") != std::string::npos) << text;
    EXPECT_NE(text.find("or set device: CPU"), std::string::npos) << text;
  }
}

TEST(CudaContextStart, MoreMemoryThanThereIs) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    cudaGetLastError();
    GTEST_SKIP() << "no GPU";
  }
  const std::unique_ptr<DeviceContext> context = MakeCudaContext(0);
  const int64_t too_much = AskCudaDevice(0).total_bytes + (int64_t{1} << 30);
  void* const space = context->Reserve(too_much);  // address space costs nothing
  const auto expect_refusal = [](auto call) {
    try {
      call();
      ADD_FAILURE() << "more memory than there is";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("train.micro_batch"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("are free"), std::string::npos) << error.what();
    }
  };
  expect_refusal([&] { context->Commit(space, too_much); });
  expect_refusal([&] { context->Allocate(too_much); });
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "left for the next launch to report";
  context->Commit(space, 1 << 22);
  context->Free(space);
}

}  // namespace
}  // namespace unipool
