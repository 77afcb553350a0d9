// Which kernels may already use how much dynamic shared memory, and on which device. CUDA is asked once for
// a kernel and a device and not at every launch, which would take the host about a microsecond.
#pragma once

#include <cstdint>
#include <vector>

namespace unipool::cuda {

// Of one thread. Each thread that launches has its own, so they need no lock, and some ask again for what
// another has been allowed.
class SharedAllowance {
 public:
  // Must CUDA be asked to allow `kernel` these bytes on `device`? The caller then asks, and ends the job if
  // that is refused. What was allowed once stays, also for launches with fewer bytes.
  bool MustAsk(const void* kernel, int device, int64_t bytes) {
    for (Allowed& allowed : allowed_) {
      if (allowed.kernel != kernel || allowed.device != device) continue;
      if (allowed.bytes >= bytes) return false;
      allowed.bytes = bytes;
      return true;
    }
    allowed_.push_back({kernel, device, bytes});
    return true;
  }

 private:
  struct Allowed {
    const void* kernel;
    int device;
    int64_t bytes;
  };
  std::vector<Allowed> allowed_;  // few, so they are searched one by one
};

}  // namespace unipool::cuda
