// What a rank's kernels cost: time, arithmetic and bytes per kind of operation. From it follow the share of a
// step inside GEMM and the step's floor: for each call the longer of its arithmetic at peak and its bytes at
// copy bandwidth.
#pragma once

#include <array>
#include <cstdint>

namespace unipool {

enum class Op : uint8_t {
  kGemm,         // dense products
  kGroupedGemm,  // expert products
  kAttention,
  kRope,
  kRmsNorm,
  kRouter,   // scores and top-k, forward and backward (their product is kGemm)
  kPermute,  // gather, combine
  kSwiglu,
  kEmbedding,
  kCrossEntropy,
  kOptimizer,
  kReduce,    // sums, norms, copies
  kExchange,  // between ranks
};
inline constexpr int kNumOps = 13;
const char* NameOf(Op op);

struct OpCost {
  int64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0, floor_seconds = 0;
};

class Profile {
 public:
  Profile() = default;
  // With the machine's measured peaks the floor of every call is summed as well.
  Profile(double peak_flops_per_second, double copy_bytes_per_second)
      : peak_flops_(peak_flops_per_second), copy_bytes_(copy_bytes_per_second) {}
  void Add(Op op, double seconds, double flops, double bytes);
  const OpCost& cost(Op op) const { return costs_[static_cast<int>(op)]; }
  OpCost Total() const;
  void Reset() { costs_ = {}; }

 private:
  double peak_flops_ = 0, copy_bytes_ = 0;
  std::array<OpCost, kNumOps> costs_{};
};

}  // namespace unipool
