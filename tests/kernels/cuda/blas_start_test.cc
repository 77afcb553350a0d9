// cuBLAS is opened at first use. Where there is a device it starts, where there is none its user reads why
// not; the program itself has started without it.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "kernels/cuda/blas.h"

namespace unipool {
namespace {

TEST(CudaBlasStart, StartsOrSaysWhyNot) {
  int count = 0;
  const bool has_device = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  try {
    const cuda::Blas blas(nullptr);
    EXPECT_TRUE(has_device);
    EXPECT_EQ(blas.Version().substr(0, 2), std::to_string(CUBLAS_VER_MAJOR));
  } catch (const UserError& error) {
    const std::string text = error.what();
    const bool missing = text.find("LD_LIBRARY_PATH") != std::string::npos;
    const bool no_device = text.find("does not start on this device: CUBLAS_STATUS_") != std::string::npos;
    EXPECT_TRUE(missing || (no_device && !has_device)) << text;
    EXPECT_NE(text.find("libcublas.so."), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace unipool
