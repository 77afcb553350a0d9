// Says on which device figures are measured, as Markdown table rows; without one, a sentence that says
// whether the GPU or a newer driver is missing, and exit status 2.
//   gpu_info --cublas     only the name of the cuBLAS that the programs open; needs no GPU
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/driver.h"

using unipool::Format;
using unipool::cuda::VersionText;

namespace {

std::string BlasText() {
  try {
    return unipool::cuda::Blas(nullptr).Version();
  } catch (const unipool::UserError& error) {
    return std::string("none: ") + error.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--cublas") == 0) {
    std::printf("%s\n", unipool::cuda::Blas::LibraryName());
    return 0;
  }
  int count = 0;
  if (const std::string reason = unipool::cuda::WhyNoDevice(count); !reason.empty()) {
    std::fprintf(stderr, "%s\n", reason.c_str());
    return 2;
  }
  cudaDeviceProp device;
  if (const cudaError_t answer = cudaGetDeviceProperties(&device, 0); answer != cudaSuccess) {
    std::fprintf(stderr, "the GPU does not answer (%s)\n", cudaGetErrorName(answer));
    return 2;
  }
  std::printf("| device | %s, compute capability %d.%d, %d multiprocessors |\n", device.name, device.major,
              device.minor, device.multiProcessorCount);
  std::printf("| memory | %.1f GiB, L2 cache %.1f MiB |\n",
              static_cast<double>(device.totalGlobalMem) / (1 << 30),
              static_cast<double>(device.l2CacheSize) / (1 << 20));
  std::printf("| CUDA | driver for %s, runtime %s, cuBLAS %s |\n",
              VersionText(unipool::cuda::DriverVersion()).c_str(), VersionText(CUDART_VERSION).c_str(),
              BlasText().c_str());
}
