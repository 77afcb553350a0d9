// In a program without a CUDA toolkit a kernel that is sent to a CUDA device says so and does nothing else.
#include <gtest/gtest.h>

#include "kernels/cuda_context.h"
#include "kernels/swiglu.h"

namespace unipool {
namespace {

class NoMemory : public DeviceMemory {
 public:
  void* Allocate(int64_t) override { return nullptr; }
  void Free(void*) override {}
  void Zero(void*, int64_t) override {}
};

TEST(CudaRefusal, NamesTheLauncherAndTheRemedy) {
  NoMemory memory;
  MemoryMeter meter;
  Stream stream(meter, CudaQueue{.memory = &memory});
  float values[24] = {};
  const Tensor gate_up(values, DType::kF32, {2, 8}), activation(values + 16, DType::kF32, {2, 4});
  try {
    SwigluForward(stream, gate_up, activation);
    FAIL() << "ran without a toolkit";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("SwigluForward"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("without a CUDA toolkit"), std::string::npos) << error.what();
  }
}

TEST(CudaRefusal, NoContextWithoutAToolkit) {
  try {
    MakeCudaContext(0);
    FAIL() << "a context without a toolkit";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("without a CUDA toolkit"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace unipool
