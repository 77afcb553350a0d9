// Says on which device figures are measured, as Markdown table rows; without one, a sentence that says
// whether the GPU or a newer driver is missing, and exit status 2.
//   gpu_info --cublas     only the name of the cuBLAS that the programs open; needs no GPU
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include "kernels/cuda/blas.h"

using unipool::Format;

namespace {

std::string VersionText(int version) {  // 13000 is 13.0
  return Format("%d.%d", version / 1000, version % 1000 / 10);
}

std::string BlasText() {
  try {
    return unipool::cuda::Blas(nullptr).Version();
  } catch (const unipool::UserError& error) {
    return std::string("none: ") + error.what();
  }
}

// The oldest driver of a CUDA major version (CUDA's release notes, minor version compatibility).
constexpr const char* kOldestDriver = CUDART_VERSION / 1000 == 13 ? "580" : "of its toolkit's release";

// The newest CUDA that the driver knows, as the driver itself says: the runtime may refuse to ask an old one.
// 0: there is no driver.
int DriverVersion() {
  int version = 0;
  if (void* library = dlopen("libcuda.so.1", RTLD_NOW)) {
    const auto ask = reinterpret_cast<int (*)(int*)>(dlsym(library, "cuDriverGetVersion"));
    if (ask && ask(&version) != 0) version = 0;
  }
  return version;
}

// CUDA answers cudaErrorInsufficientDriver both to an old driver and to none.
std::string WhyNot(cudaError_t error, int driver, int runtime) {
  const std::string name = std::string(" (") + cudaGetErrorName(error) + ")";
  if (driver == 0) return "no GPU: no NVIDIA driver is installed" + name;
  if (error == cudaErrorInsufficientDriver) {
    return Format("driver too old: it is for CUDA %s, the programs need one for CUDA %s, driver %s or newer",
                  VersionText(driver).c_str(), VersionText(runtime).c_str(), kOldestDriver) +
           name;
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) return "no GPU: the driver lists none" + name;
  return std::string("the GPU cannot be used: ") + cudaGetErrorString(error) + name;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--cublas") == 0) {
    std::printf("%s\n", unipool::cuda::Blas::LibraryName());
    return 0;
  }
  int count = 0, runtime = 0;
  const int driver = DriverVersion();
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    std::fprintf(stderr, "%s\n", WhyNot(error, driver, runtime).c_str());
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
  std::printf("| CUDA | driver for %s, runtime %s, cuBLAS %s |\n", VersionText(driver).c_str(),
              VersionText(runtime).c_str(), BlasText().c_str());
}
