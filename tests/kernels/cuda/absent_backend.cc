#include "tests/kernels/cuda/cuda_backend.h"

namespace unipool {

std::string WhyNoCuda() {
  return "this build has no CUDA toolkit";
}
std::string WhyNoBlas() {
  return WhyNoCuda();
}
int NumCudaRuns() {
  return 0;
}
std::string CudaRunName(int) {
  return "none";
}
std::unique_ptr<CudaBackend> MakeCudaBackend(int) {
  return nullptr;
}
std::unique_ptr<DeviceContext> MakeTestContext(int) {
  return nullptr;
}

}  // namespace unipool
