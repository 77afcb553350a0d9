#include "kernels/cuda_context.h"

#ifndef UNIPOOL_WITH_CUDA  // otherwise in cuda/device_context_cuda.cc

#include "kernels/cuda/launchers.h"

namespace unipool {

std::unique_ptr<DeviceContext> MakeCudaContext(int) {
  cuda::RefuseWithoutToolkit("the job");
  return nullptr;
}

CudaDeviceFacts AskCudaDevice(int) {
  cuda::RefuseWithoutToolkit("the job");
  return {};
}

}  // namespace unipool

#endif
