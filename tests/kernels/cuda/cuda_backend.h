// Where a case's kernels run: emulated on the host (emulated_backend.cc), on hardware (hardware_backend.cc),
// or nowhere (absent_backend.cc). A test program links one of the three.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/device_context.h"
#include "runtime/stream.h"

namespace unipool {

// The device of one run of one case; its arrays go when it goes.
class CudaBackend {
 public:
  virtual ~CudaBackend() = default;
  virtual Stream& stream() = 0;
  // All bytes 0xff, 16-byte aligned, and so surrounded that accesses outside are seen (on hardware on request
  // unwritten and unsurrounded, for compute-sanitizer).
  virtual void* Allocate(int64_t bytes, const std::string& name) = 0;
  virtual void CopyIn(void* device, const void* host, int64_t bytes) = 0;
  virtual void CopyOut(void* host, const void* device, int64_t bytes) = 0;
  // Waits for the kernels; what they wrote outside arrays, a sentence each.
  virtual std::vector<std::string> Damage() = 0;
};

std::string WhyNoCuda();  // empty: kernels can run
std::string WhyNoBlas();  // empty: so can cuBLAS; otherwise streams have none
// A case is run this many times, if possible in different orders; all runs must give the same bits.
int NumCudaRuns();
std::string CudaRunName(int run);
std::unique_ptr<CudaBackend> MakeCudaBackend(int run);
// A rank's device, with the queues of run `run`.
std::unique_ptr<DeviceContext> MakeTestContext(int run);

}  // namespace unipool
