// Says on which device figures are measured, as Markdown table rows; without one, a sentence and exit
// status 2.
#include <cuda_runtime_api.h>

#include <cstdio>

#include "kernels/cuda/blas.h"

namespace {

std::string VersionText(int version) {  // 13000 is 13.0
  return unipool::Format("%d.%d", version / 1000, version % 1000 / 10);
}

std::string BlasText() {
  try {
    return unipool::cuda::Blas(nullptr).Version();
  } catch (const unipool::UserError& error) {
    return std::string("none: ") + error.what();
  }
}

}  // namespace

int main() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    std::fprintf(stderr, "no GPU can be used here: %s\n",
                 error == cudaSuccess ? "the driver lists none" : cudaGetErrorString(error));
    return 2;
  }
  cudaDeviceProp device;
  if (cudaGetDeviceProperties(&device, 0) != cudaSuccess) {
    std::fprintf(stderr, "the GPU does not answer\n");
    return 2;
  }
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  std::printf("| device | %s, compute capability %d.%d, %d multiprocessors |\n", device.name, device.major,
              device.minor, device.multiProcessorCount);
  std::printf("| memory | %.1f GiB, L2 cache %.1f MiB |\n",
              static_cast<double>(device.totalGlobalMem) / (1 << 30),
              static_cast<double>(device.l2CacheSize) / (1 << 20));
  std::printf("| CUDA | driver for %s, runtime %s, cuBLAS %s |\n", VersionText(driver).c_str(),
              VersionText(runtime).c_str(), BlasText().c_str());
}
