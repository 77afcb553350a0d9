// CUDA's driver, and the errors of CUDA. Nothing is linked with libcuda. So programs start without a driver
// and say what is missing.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <string>

#include "runtime/errors.h"

namespace unipool::cuda {

// Why no GPU can be used here, in words: no driver, a driver that is too old, or no GPU. Empty if `count`
// GPUs can be used.
std::string WhyNoDevice(int& count);
// The newest CUDA that the driver knows, 13000 for 13.0. 0 if there is no driver.
int DriverVersion();
std::string VersionText(int version);  // "13.0"

// Virtual memory of the driver (its API of CUDA 10.2).
struct VirtualMemoryCalls {
  decltype(&cuMemGetAllocationGranularity) granularity;
  decltype(&cuMemAddressReserve) reserve;
  decltype(&cuMemAddressFree) free;
  decltype(&cuMemCreate) create;
  decltype(&cuMemRelease) release;
  decltype(&cuMemMap) map;
  decltype(&cuMemUnmap) unmap;
  decltype(&cuMemSetAccess) set_access;
};
VirtualMemoryCalls LoadVirtualMemoryCalls();  // REQUIRES: a device
std::string NameOf(CUresult result);

}  // namespace unipool::cuda

// A call that fails ends the job with CUDA's reason and with `what` was tried, which is streamed. The cause
// may be work that was enqueued earlier.
#define UNIPOOL_CHECK_CUDA(call, what)                                                                      \
  do {                                                                                                      \
    const cudaError_t unipool_error = (call);                                                               \
    CHECK(unipool_error == cudaSuccess) << what << ": " << cudaGetErrorString(unipool_error) << " ("        \
                                        << cudaGetErrorName(unipool_error) << "), here or in earlier work"; \
  } while (false)
#define UNIPOOL_CHECK_DRIVER(call, what)                                                              \
  do {                                                                                                \
    const CUresult unipool_result = (call);                                                           \
    CHECK(unipool_result == CUDA_SUCCESS) << what << ": " << ::unipool::cuda::NameOf(unipool_result); \
  } while (false)
