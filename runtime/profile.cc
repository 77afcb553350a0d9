#include "runtime/profile.h"

#include <algorithm>

namespace unipool {

const char* NameOf(Op op) {
  static constexpr const char* kNames[kNumOps] = {
      "gemm",   "grouped_gemm", "attention",     "rope",      "rms_norm", "router",  "permute",
      "swiglu", "embedding",    "cross_entropy", "optimizer", "reduce",   "exchange"};
  return kNames[static_cast<int>(op)];
}

void Profile::Add(Op op, double seconds, double flops, double bytes) {
  OpCost& cost = costs_[static_cast<int>(op)];
  ++cost.calls;
  cost.seconds += seconds;
  cost.flops += flops;
  cost.bytes += bytes;
  if (peak_flops_ > 0) cost.floor_seconds += std::max(flops / peak_flops_, bytes / copy_bytes_);
}

OpCost Profile::Total() const {
  OpCost total;
  for (const OpCost& cost : costs_) {
    total.calls += cost.calls;
    total.seconds += cost.seconds;
    total.flops += cost.flops;
    total.bytes += cost.bytes;
    total.floor_seconds += cost.floor_seconds;
  }
  return total;
}

}  // namespace unipool
