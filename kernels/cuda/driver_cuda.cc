#include <dlfcn.h>

#include <cstdlib>
#include <mutex>

#include "kernels/cuda/driver.h"

namespace unipool::cuda {
namespace {

// The oldest driver of a CUDA major version (CUDA's release notes, minor version compatibility).
constexpr const char* kOldestDriver = CUDART_VERSION / 1000 == 13 ? "580" : "of its toolkit's release";

template <class Function>
void Load(Function& function, const char* name, unsigned version) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult answer{};
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, version, cudaEnableDefault, &answer);
#else
  (void)version;
  const cudaError_t error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &answer);
#endif
  CHECK(error == cudaSuccess && answer == cudaDriverEntryPointSuccess && found)
      << "the driver has no " << name << ": " << cudaGetErrorString(error);
  function = reinterpret_cast<Function>(found);
}

}  // namespace

std::string VersionText(int version) {
  return Format("%d.%d", version / 1000, version % 1000 / 10);
}

// The driver itself is asked: the runtime may refuse to ask an old one.
int DriverVersion() {
  int version = 0;
  if (void* library = dlopen("libcuda.so.1", RTLD_NOW)) {
    const auto ask = reinterpret_cast<int (*)(int*)>(dlsym(library, "cuDriverGetVersion"));
    if (ask && ask(&version) != 0) version = 0;
  }
  return version;
}

// CUDA answers cudaErrorInsufficientDriver both to an old driver and to none.
std::string WhyNoDevice(int& count) {
  // A kernel that is loaded at its first launch can wait for a kernel of NCCL that waits for another rank.
  static std::once_flag loads_all;
  std::call_once(loads_all, [] { setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0); });
  count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return "";
  cudaGetLastError();  // or the next launch would report it
  const std::string name = std::string(" (") + cudaGetErrorName(error) + ")";
  const int driver = DriverVersion();
  if (driver == 0) return "no GPU: no NVIDIA driver is installed" + name;
  if (error == cudaErrorInsufficientDriver) {
    return Format("driver too old: it is for CUDA %s, the programs need one for CUDA %s, driver %s or newer",
                  VersionText(driver).c_str(), VersionText(CUDART_VERSION).c_str(), kOldestDriver) +
           name;
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) return "no GPU: the driver lists none" + name;
  return std::string("the GPU cannot be used: ") + cudaGetErrorString(error) + name;
}

VirtualMemoryCalls LoadVirtualMemoryCalls() {
  constexpr unsigned kVersion = 10020;
  VirtualMemoryCalls calls{};
  Load(calls.granularity, "cuMemGetAllocationGranularity", kVersion);
  Load(calls.reserve, "cuMemAddressReserve", kVersion);
  Load(calls.free, "cuMemAddressFree", kVersion);
  Load(calls.create, "cuMemCreate", kVersion);
  Load(calls.release, "cuMemRelease", kVersion);
  Load(calls.map, "cuMemMap", kVersion);
  Load(calls.unmap, "cuMemUnmap", kVersion);
  Load(calls.set_access, "cuMemSetAccess", kVersion);
  return calls;
}

std::string NameOf(CUresult result) {
  decltype(&cuGetErrorName) get_name = nullptr;
  Load(get_name, "cuGetErrorName", 6000);
  const char* name = nullptr;
  return get_name(result, &name) == CUDA_SUCCESS ? name : Format("CUresult %d", static_cast<int>(result));
}

}  // namespace unipool::cuda
