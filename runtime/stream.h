// Where a rank's kernels run, in order. On the CPU a launch runs at once on the calling thread (one thread
// per rank). A stream also owns the scratch memory of its kernels and, if asked, the account of what they
// cost.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/buffer.h"
#include "runtime/poll_point.h"
#include "runtime/profile.h"

namespace unipool {

enum class Device : uint8_t { kCpu, kCuda };

// A CUDA stream, as floors without CUDA headers can hold it. The creator owns what the handles name and keeps
// it alive longer than the Stream.
struct CudaQueue {
  void* stream = nullptr;  // cudaStream_t
  void* blas = nullptr;    // a cuda::Blas (kernels/cuda/blas.h) made for that stream; null: no products
  DeviceMemory* memory = nullptr;
};

class Stream {
 public:
  explicit Stream(MemoryMeter& meter, Device device = Device::kCpu) : device_(device), meter_(&meter) {}
  Stream(MemoryMeter& meter, const CudaQueue& queue)
      : device_(Device::kCuda), meter_(&meter), queue_(queue) {}
  Device device() const { return device_; }
  const CudaQueue& cuda() const {  // REQUIRES: made from a CudaQueue
    DCHECK(queue_.memory);
    return queue_;
  }

  // At least `bytes` of scratch memory of the stream's device, valid until the next call. The memory grows to
  // the largest size that was ever asked for, and then stays.
  void* Scratch(int64_t bytes);

  // Kernels record their cost in `profile` from now on; null: nothing is recorded. The profile must outlive
  // its use.
  void set_profile(Profile* profile) { profile_ = profile; }
  Profile* profile() const { return profile_; }

 private:
  Device device_;
  MemoryMeter* meter_;
  CudaQueue queue_;
  Buffer scratch_;
  std::shared_ptr<void> device_scratch_;
  int64_t device_scratch_bytes_ = 0;
  Profile* profile_ = nullptr;
};

// Stands at the top of every kernel launcher. Records the kernel's time, its arithmetic, and the bytes that
// must move at least: each input read once, each output written once. On CUDA the time is what enqueueing the
// work takes. What the kernel takes there, a profiler of the device shows.
class KernelScope {
 public:
  KernelScope(Stream& stream, Op op, double flops, double bytes)
      : profile_(stream.profile()), op_(op), flops_(flops), bytes_(bytes) {
    if (profile_) start_ = profile_->Now();
  }
  ~KernelScope() {
    if (profile_) profile_->Add(op_, profile_->Now() - start_, flops_, bytes_);
    PollPoint();
  }
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  Profile* profile_;
  Op op_;
  double flops_, bytes_;
  double start_ = 0;
};

}  // namespace unipool
