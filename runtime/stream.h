// Where a rank's kernels run, in order. On the CPU a launch runs at once on the calling thread (one thread
// per rank). A stream also owns the scratch memory of its kernels and, if asked, the account of what they
// cost.
#pragma once

#include <chrono>
#include <cstdint>

#include "runtime/buffer.h"
#include "runtime/profile.h"

namespace unipool {

enum class Device : uint8_t { kCpu, kCuda };

class Stream {
 public:
  explicit Stream(MemoryMeter& meter, Device device = Device::kCpu) : device_(device), meter_(&meter) {}
  Device device() const { return device_; }

  // At least `bytes` of scratch memory, valid until the next call. Grows to the largest ever asked and then
  // stays.
  void* Scratch(int64_t bytes);

  // null: nothing is recorded. The profile must outlive its use.
  void set_profile(Profile* profile) { profile_ = profile; }
  Profile* profile() const { return profile_; }

 private:
  Device device_;
  MemoryMeter* meter_;
  Buffer scratch_;
  Profile* profile_ = nullptr;
};

// Put at the top of every kernel launcher: records time, arithmetic and the bytes that must move at least
// (each input read once, each output written once).
class KernelScope {
 public:
  KernelScope(Stream& stream, Op op, double flops, double bytes)
      : profile_(stream.profile()), op_(op), flops_(flops), bytes_(bytes) {
    if (profile_) start_ = std::chrono::steady_clock::now();
  }
  ~KernelScope() {
    if (profile_) {
      profile_->Add(op_, std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(),
                    flops_, bytes_);
    }
  }
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  Profile* profile_;
  Op op_;
  double flops_, bytes_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace unipool
