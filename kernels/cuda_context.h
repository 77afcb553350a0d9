// The CUDA device of one rank (runtime/device_context.h).
#pragma once

#include <memory>
#include <string>

#include "runtime/device_context.h"

namespace unipool {

// GPU local_rank of this host, modulo how many GPUs there are, so several ranks may share one. The calling
// thread is the only one that uses the context, and it ends the context. There are two queues; the
// communication queue has the higher priority. Memory of Reserve is physical up to what was committed, in
// pieces of the device's granularity (2 MiB). A reservation below 4 MiB is taken whole.
// Throws a UserError, one sentence each, in three cases:
//   - The program was built without a CUDA toolkit.
//   - There is no driver, a driver that is too old, or no GPU.
//   - There is not enough memory. The sentence has what was asked for, what is free, and what to change.
std::unique_ptr<DeviceContext> MakeCudaContext(int local_rank);

// What CUDA says of that GPU now. UserError as above.
struct CudaDeviceFacts {
  int num_devices = 0;
  std::string name, id;                     // as DeviceContext::name() and id(): "NVIDIA H200", "GPU-0d1c..."
  int64_t total_bytes = 0, free_bytes = 0;  // all processes counted
};
CudaDeviceFacts AskCudaDevice(int local_rank);

}  // namespace unipool
