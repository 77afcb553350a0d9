// What a rank's kernels cost: time, arithmetic and bytes of each kind of operation. Two numbers follow from
// it: the share of a step that is inside GEMM, and the step's floor. The floor of a call is the longer of two
// times: its arithmetic at the machine's peak, and its bytes at the machine's copy bandwidth.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "runtime/virtual_clock.h"

namespace unipool {

// What a kernel does. These are words of the floor of the kernels. This floor counts by them and decides
// nothing by them. A new kind goes here, into kNumOps and into NameOf.
enum class Op : uint8_t {
  kGemm,         // dense products
  kGroupedGemm,  // expert products
  kAttention,
  kRope,
  kRmsNorm,
  kRouter,   // scores and top-k, forward and backward (on the CPU their product is kGemm)
  kPermute,  // rows between token order and expert order, and that order
  kSwiglu,
  kEmbedding,
  kCrossEntropy,
  kOptimizer,
  kReduce,    // sums, fills, copies
  kExchange,  // between ranks
};
inline constexpr int kNumOps = 13;
const char* NameOf(Op op);

struct OpCost {
  int64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0, floor_seconds = 0;
};

// Which time a profile counts: time as it passes, or the processor time of the calling thread. The second is
// right where ranks share processors.
enum class ProfileClock { kWall, kThreadCpu };

class Profile {
 public:
  Profile() = default;
  // Also sums the floor of every call, from the machine's measured peaks.
  Profile(double peak_flops_per_second, double copy_bytes_per_second)
      : peak_flops_(peak_flops_per_second), copy_bytes_(copy_bytes_per_second) {}
  explicit Profile(ProfileClock clock) : clock_(clock) {}
  double Now() const {
    if (clock_ == ProfileClock::kThreadCpu) return ThreadCpuSeconds();
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  void Add(Op op, double seconds, double flops, double bytes);
  const OpCost& cost(Op op) const { return costs_[static_cast<int>(op)]; }
  OpCost Total() const;
  void Reset() { costs_ = {}; }

 private:
  ProfileClock clock_ = ProfileClock::kWall;
  double peak_flops_ = 0, copy_bytes_ = 0;
  std::array<OpCost, kNumOps> costs_{};
};

}  // namespace unipool
