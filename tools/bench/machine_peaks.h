// The most that this machine can do, as measured. Benchmarks compare with it.
#pragma once

#include "runtime/stream.h"

namespace unipool {

struct MachinePeaks {
  double flops_per_second = 0;       // largest rate of a big fp32 product on one thread
  double bf16_flops_per_second = 0;  // the same of BF16 numbers (kernels/BF16_CPU.md)
  double bytes_per_second = 0;       // copying arrays far larger than the caches, bytes read + written
};

MachinePeaks MeasureMachinePeaks();

}  // namespace unipool
