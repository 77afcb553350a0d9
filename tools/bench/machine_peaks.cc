#include "tools/bench/machine_peaks.h"

#include <algorithm>
#include <cstring>

#include "kernels/gemm.h"
#include "runtime/random.h"
#include "tools/bench/thread_time.h"

namespace unipool {

namespace {

template <class Work>
double BestSeconds(int repeats, Work&& work) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const double start = ThreadSeconds();
    work();
    best = std::min(best, ThreadSeconds() - start);
  }
  return best;
}

}  // namespace

MachinePeaks MeasureMachinePeaks() {
  MemoryMeter memory;
  Stream stream(memory);
  constexpr int64_t kSize = 1536, kCopyBytes = 256 << 20;
  Buffer matrices = Buffer::Allocate(memory, MemoryKind::kScratch, 3 * kSize * kSize * 4);
  const Tensor all = matrices.View(DType::kF32, {3 * kSize, kSize});
  for (int64_t i = 0; i < all.size(); ++i) all.as<float>()[i] = static_cast<float>(RandomUniform(1, i) - 0.5);
  const Tensor a = all.Rows(0, kSize), b = all.Rows(kSize, kSize), c = all.Rows(2 * kSize, kSize);

  Buffer from = Buffer::Allocate(memory, MemoryKind::kScratch, kCopyBytes);
  Buffer to = Buffer::Allocate(memory, MemoryKind::kScratch, kCopyBytes);
  std::memset(from.data(), 1, kCopyBytes);
  MachinePeaks peaks;
  peaks.flops_per_second = 2.0 * kSize * kSize * kSize /
                           BestSeconds(10, [&] { Gemm(stream, Trans::kNo, a, Trans::kYes, b, 0, c); });
  peaks.bf16_flops_per_second = 2.0 * kSize * kSize * kSize / BestSeconds(4, [&] {
                                  Gemm(stream, Trans::kNo, a, Trans::kYes, b, 0, c, DType::kBF16);
                                });
  peaks.bytes_per_second =
      2.0 * kCopyBytes / BestSeconds(10, [&] { std::memcpy(to.data(), from.data(), kCopyBytes); });
  return peaks;
}

}  // namespace unipool
