// Which kernels may already use how much dynamic shared memory, and on which device. CUDA is asked once for
// a kernel and a device and not at every launch, which would take the host about a microsecond.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace unipool::cuda {

// The most bytes that were allowed, by kernel and device.
class AllowedShared {
 public:
  // The bytes of `kernel` on `device`, which the caller may raise; 0 at first.
  int64_t& Of(const void* kernel, int device) {
    for (Allowed& allowed : allowed_) {
      if (allowed.kernel == kernel && allowed.device == device) return allowed.bytes;
    }
    return allowed_.emplace_back(kernel, device, 0).bytes;
  }

 private:
  struct Allowed {
    const void* kernel;
    int device;
    int64_t bytes;
  };
  std::vector<Allowed> allowed_;  // few, so they are searched one by one
};

// Of a process. CUDA keeps one number for a kernel and a device, whichever thread asked, and takes a smaller
// one too, so threads that ask for different sizes must not ask past each other.
class ProcessAllowance {
 public:
  // Lets ask(), which tells CUDA `bytes`, run unless as many are allowed. Returns what is allowed then.
  template <class Ask>
  int64_t Raise(const void* kernel, int device, int64_t bytes, Ask ask) {
    const std::lock_guard lock(mutex_);
    int64_t& allowed = allowed_.Of(kernel, device);
    if (allowed < bytes) {
      ask();
      allowed = bytes;
    }
    return allowed;
  }

 private:
  std::mutex mutex_;
  AllowedShared allowed_;
};

// Of a thread that launches. It remembers what the process has been allowed, which only grows, so a launch
// takes a lock only where it needs more than this thread has seen.
class SharedAllowance {
 public:
  explicit SharedAllowance(ProcessAllowance& of_process) : of_process_(of_process) {}

  // When it returns, `kernel` may use `bytes` on `device`. ask() tells CUDA so. It ends the job, or lets its
  // caller end it, if that is refused.
  template <class Ask>
  void Allow(const void* kernel, int device, int64_t bytes, Ask ask) {
    int64_t& seen = seen_.Of(kernel, device);
    if (seen < bytes) seen = of_process_.Raise(kernel, device, bytes, ask);
  }

 private:
  ProcessAllowance& of_process_;
  AllowedShared seen_;
};

}  // namespace unipool::cuda
