// A block per row. The first pass keeps, in each thread, the largest logit so far and the sum of exponentials
// relative to it; the second writes the gradient and finds the row in the L2 cache, because few rows are
// under way at a time. Rows need not begin at 16 bytes: the elements before the first whole pack and behind
// the last move one by one.
#include <cfloat>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

constexpr int kMostThreads = 512, kInFlight = 3;

// How a row of `width` elements splits into single elements and whole packs. Rows are shorter than 2^31.
struct RowSplit {
  int head, num_packs, tail;  // elements, packs, elements
};
template <class T>
__device__ inline RowSplit SplitRow(const T* row, int width) {
  constexpr int kPack = kPackOf16<T>;
  const int misaligned = static_cast<int>(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
  const int head = min((kPack - misaligned) % kPack, width);
  return {head, (width - head) / kPack, (width - head) % kPack};
}

// Calls on_pack(values, j) for this thread's packs, which begin at element j, kInFlight loads at a time, and
// on_single(value, j) for its single elements.
template <class T, class OnPack, class OnSingle>
__device__ inline void VisitRow(const T* row, const RowSplit& split, OnPack on_pack, OnSingle on_single) {
  constexpr int kPack = kPackOf16<T>;
  const int thread = threadIdx.x, num_threads = blockDim.x;
  for (int begin = thread; begin < split.num_packs; begin += kInFlight * num_threads) {
    Pack<T, kPack> packs[kInFlight];
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      const int p = begin + c * num_threads;
      if (p < split.num_packs) packs[c] = LoadPack<kPack>(row + split.head + p * kPack);
    }
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      const int p = begin + c * num_threads;
      if (p < split.num_packs) on_pack(packs[c], split.head + p * kPack);
    }
  }
  const int end = split.head + split.num_packs * kPack;
  if (thread < split.head) on_single(row[thread], thread);
  if (thread < split.tail) on_single(row[end + thread], end + thread);
}

// sum of exp(x - max) over what has been seen. Nothing seen: a sum of 0, and a max below all logits whose
// differences are still numbers.
struct SoftmaxSum {
  float max = -FLT_MAX, sum = 0;
  __device__ void Raise(float to) {
    if (to <= max) return;
    sum *= __expf(max - to);
    max = to;
  }
  __device__ void Add(float x) {
    Raise(x);
    sum += __expf(x - max);
  }
  __device__ void Join(SoftmaxSum other) {
    Raise(other.max);
    sum += other.sum * __expf(other.max - max);
  }
};

// The same bits in all lanes: a pair may round its two sums differently, so lane 0's counts.
__device__ inline SoftmaxSum WarpJoin(SoftmaxSum mine) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    mine.Join({__shfl_xor_sync(kFullWarp, mine.max, step), __shfl_xor_sync(kFullWarp, mine.sum, step)});
  }
  return {__shfl_sync(kFullWarp, mine.max, 0), __shfl_sync(kFullWarp, mine.sum, 0)};
}

// REQUIRES: whole warps.
__device__ inline SoftmaxSum BlockJoin(SoftmaxSum mine) {
  UNIPOOL_SHARED(float, maxima, [kMostThreads / kWarp]);
  UNIPOOL_SHARED(float, sums, [kMostThreads / kWarp]);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, num_warps = blockDim.x / kWarp;
  mine = WarpJoin(mine);
  if (lane == 0) {
    maxima[warp] = mine.max;
    sums[warp] = mine.sum;
  }
  __syncthreads();
  return WarpJoin(lane < num_warps ? SoftmaxSum{maxima[lane], sums[lane]} : SoftmaxSum{});
}

template <class T>
UNIPOOL_KERNEL((kMostThreads, 2), Kernel, int width, T* logits, const int32_t* targets, float grad_scale,
               double* losses) {
  constexpr int kPack = kPackOf16<T>;
  T* row = logits + int64_t{blockIdx.x} * width;
  const int target = targets[blockIdx.x];
  DeviceCheck(target >= 0 && target < width, "targets are in the vocabulary");
  const float target_logit = ToFloat(row[target]);
  const RowSplit split = SplitRow(row, width);

  SoftmaxSum seen;
  VisitRow(
      row, split,
      [&](const Pack<T, kPack>& pack, int) {
        float largest = ToFloat(pack.value[0]);
#pragma unroll
        for (int e = 1; e < kPack; ++e) largest = fmaxf(largest, ToFloat(pack.value[e]));
        seen.Raise(largest);
#pragma unroll
        for (int e = 0; e < kPack; ++e) seen.sum += __expf(ToFloat(pack.value[e]) - seen.max);
      },
      [&](T value, int) { seen.Add(ToFloat(value)); });
  // Behind the barrier in here nobody reads the target's logit any more.
  const SoftmaxSum all = BlockJoin(seen);
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = double{logf(all.sum)} + (double{all.max} - double{target_logit});
  }
  if (grad_scale == 0) return;

  const float factor = grad_scale / all.sum;
  const auto gradient = [&](float x, int j) {
    return FromFloat<T>(factor * __expf(x - all.max) - (j == target ? grad_scale : 0.0f));
  };
  VisitRow(
      row, split,
      [&](Pack<T, kPack> pack, int j) {
#pragma unroll
        for (int e = 0; e < kPack; ++e) pack.value[e] = gradient(ToFloat(pack.value[e]), j + e);
        StorePack(row + j, pack);
      },
      [&](T value, int j) { row[j] = gradient(ToFloat(value), j); });
}

// Whole warps, with two packs a thread where the row is that long.
template <class T>
unsigned ThreadsFor(int64_t width) {
  const int64_t warps = CeilDiv(width, int64_t{2} * kPackOf16<T> * kWarp);
  return static_cast<unsigned>(kWarp * std::clamp<int64_t>(warps, 1, kMostThreads / kWarp));
}

}  // namespace

void CrossEntropy(Stream& stream, const Tensor& logits, const Tensor& targets, double grad_scale,
                  const Tensor& losses) {
  CHECK_LT(logits.dim(1), int64_t{1} << 31) << "CrossEntropy on CUDA";
  DispatchDevice("CrossEntropy", logits.dtype, [&]<class T>() {
    const LaunchShape shape = {.grid = static_cast<unsigned>(logits.rows()),
                               .block = ThreadsFor<T>(logits.dim(1))};
    Launch("CrossEntropy", &Kernel<T>, shape, stream, logits.dim(1), logits.as<T>(), targets.as<int32_t>(),
           grad_scale, losses.as<double>());
  });
}

}  // namespace unipool::cuda
