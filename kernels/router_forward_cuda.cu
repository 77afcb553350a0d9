// A block takes kTokens tokens: first their logits with all experts, in tiles of kExperts, through shared
// memory; then a warp per token makes scores and choices of them.
#include <cfloat>

#include "kernels/cuda/fold_columns.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/router_kinds.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kTokens = kRouterTokens, kExperts = 128;  // of one product tile
constexpr int kSliceBytes = 128;                        // of a row in one step of the product
constexpr int kRowBytes = kSliceBytes + 16;             // in shared memory: rows begin in different banks
constexpr int kStages = 2;                              // slices under way
constexpr int kStageBytes = (kTokens + kExperts) * kRowBytes;
constexpr int kTokensPerWarp = kTokens / kWarps;

template <class T>
inline constexpr int kSlice = kSliceBytes / static_cast<int>(sizeof(T));
template <class T>
inline constexpr int kRow = kRowBytes / static_cast<int>(sizeof(T));

template <class T>
struct Arguments {
  int64_t num_tokens, width;
  int num_experts, top_k;
  RouterKind kind;
  RouterView router;
  const T *x, *weight, *weight_low;
  const float* bias;
  BiasReach bias_reach;
  float *logits, *scores, *partial_sum;  // partial_sum [blocks, M]
  int32_t* experts;
  float* weights;
  unsigned long long *counts, *num_off;
};

// Rows [first, first + kRows) of a matrix [rows, width], columns [begin, begin + kSlice), into shared memory;
// zeros behind its edges.
template <class T, bool kPacks, int kRows>
__device__ inline void StageRows(const T* matrix, int64_t first, int64_t rows, int64_t width, int64_t begin,
                                 T* staged) {
  if constexpr (kPacks) {
    constexpr int kPacksOfRow = kSliceBytes / 16;
    for (int i = threadIdx.x; i < kRows * kPacksOfRow; i += kThreads) {
      const int row = i / kPacksOfRow, column = i % kPacksOfRow * kPackOf16<T>;
      const bool valid = first + row < rows && begin + column < width;
      CopyAsync16(staged + row * kRow<T> + column,
                  valid ? matrix + (first + row) * width + begin + column : matrix, valid);
    }
  } else {
    for (int i = threadIdx.x; i < kRows * kSlice<T>; i += kThreads) {
      const int row = i / kSlice<T>, column = i % kSlice<T>;
      const bool valid = first + row < rows && begin + column < width;
      staged[row * kRow<T> + column] =
          valid ? matrix[(first + row) * width + begin + column] : FromFloat<T>(0);
    }
  }
}

// One thread's share of a tile [kTokens, kExperts] of the product.
template <class T>
struct TileSum;

// Exact products of bf16, summed in F32 by the tensor cores: a warp has 16 tokens and 32 experts.
template <>
struct TileSum<Bf16> {
  static constexpr int kGroups = 4;  // of 8 experts
  float sums[kGroups][4] = {};

  __device__ void Add(const Bf16* tokens, const Bf16* experts) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const Bf16* token_row = tokens + (warp % 2 * 16 + lane % 16) * kRow<Bf16> + lane / 16 * 8;
    const Bf16* expert_row =
        experts + (warp / 2 * 32 + lane % 8 + lane / 16 * 8) * kRow<Bf16> + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kSlice<Bf16>; k += 16) {
      uint32_t a[4];
      LoadMatrices(a, token_row + k);
#pragma unroll
      for (int pair = 0; pair < kGroups / 2; ++pair) {
        uint32_t b[4];
        LoadMatrices(b, expert_row + pair * 16 * kRow<Bf16> + k);
        MmaBf16(sums[2 * pair], a, {b[0], b[1]});
        MmaBf16(sums[2 * pair + 1], a, {b[2], b[3]});
      }
    }
  }
  // store(token, expert, sum) for each of its sums, counted from the tile's first.
  template <class Store>
  __device__ void ForEach(Store store) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        store(warp % 2 * 16 + lane / 4 + r / 2 * 8, warp / 2 * 32 + group * 8 + lane % 4 * 2 + r % 2,
              sums[group][r]);
      }
    }
  }
};

// A thread has 4 tokens and 4 experts that are a warp apart.
template <>
struct TileSum<float> {
  float sums[kTokensPerWarp][4] = {};

  __device__ void Add(const float* tokens, const float* experts) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    for (int k = 0; k < kSlice<float>; k += 4) {
      Pack<float, 4> w[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) w[e] = LoadPack<4>(experts + (lane + e * kWarp) * kRow<float> + k);
#pragma unroll
      for (int t = 0; t < kTokensPerWarp; ++t) {
        const Pack<float, 4> x = LoadPack<4>(tokens + (warp * kTokensPerWarp + t) * kRow<float> + k);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[t][e] += x.value[i] * w[e].value[i];
        }
      }
    }
  }
  template <class Store>
  __device__ void ForEach(Store store) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
    for (int t = 0; t < kTokensPerWarp; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) store(warp * kTokensPerWarp + t, lane + e * kWarp, sums[t][e]);
    }
  }
};

// Logits of the block's tokens into shared memory, z [kTokens, M]. Ends with a barrier.
template <class T, bool kPacks>
__device__ inline void ComputeLogits(const Arguments<T>& a, int64_t first_token, T* stages, float* z) {
  // All slices with the weight, then all with its low part.
  const int64_t num_slices = (a.width + kSlice<T> - 1) / kSlice<T>;
  const int64_t num_steps = a.weight_low == nullptr ? num_slices : 2 * num_slices;
  const auto stage = [&](int64_t step, int64_t first_expert) {
    const T* weight = step < num_slices ? a.weight : a.weight_low;
    const int64_t begin = (step < num_slices ? step : step - num_slices) * kSlice<T>;
    T* staged = stages + step % kStages * (kStageBytes / static_cast<int>(sizeof(T)));
    StageRows<T, kPacks, kTokens>(a.x, first_token, a.num_tokens, a.width, begin, staged);
    StageRows<T, kPacks, kExperts>(weight, first_expert, a.num_experts, a.width, begin,
                                   staged + kTokens * kRow<T>);
  };
  for (int first_expert = 0; first_expert < a.num_experts; first_expert += kExperts) {
    TileSum<T> tile;
    stage(0, first_expert);
    CommitCopies();
    for (int64_t step = 0; step < num_steps; ++step) {
      if (step + 1 < num_steps) stage(step + 1, first_expert);
      CommitCopies();
      WaitCopies<1>();
      __syncthreads();
      const T* staged = stages + step % kStages * (kStageBytes / static_cast<int>(sizeof(T)));
      tile.Add(staged, staged + kTokens * kRow<T>);
      __syncthreads();
    }
    tile.ForEach([&](int token, int expert, float sum) {
      if (first_expert + expert < a.num_experts) z[token * a.num_experts + first_expert + expert] = sum;
    });
  }
  __syncthreads();
}

// The lowest expert of the lane that may be chosen and is not taken; num_experts where there is none.
template <class T>
__device__ inline int LowestFree(const Arguments<T>& a, unsigned taken) {
  for (int i = threadIdx.x % kWarp, j = 0; i < a.num_experts; i += kWarp, ++j) {
    if (a.router.MayChoose(i) && !(taken >> j & 1)) return i;
  }
  return a.num_experts;
}

// What an expert's place in the choice follows from (kernels/top_k.h).
template <class T>
__device__ inline float Key(const Arguments<T>& a, const float* s, int i) {
  if (a.bias_reach == BiasReach::kPositiveScores && !(s[i] > 0)) return -FLT_MAX;
  return a.bias ? s[i] + a.bias[i] : s[i];
}

// The next expert of one token: the largest key among those visible and not taken, ties to the lower index.
// Where no key is a number, the lowest of them. Bit j of `taken` is the lane's j-th expert.
template <class T>
__device__ inline int ChooseExpert(const Arguments<T>& a, const float* s, unsigned& taken) {
  const int lane = threadIdx.x % kWarp;
  float best = -INFINITY;
  int chosen = a.num_experts;
  for (int i = lane, j = 0; i < a.num_experts; i += kWarp, ++j) {
    const float key = Key(a, s, i);
    if (a.router.MayChoose(i) && !(taken >> j & 1) && key > best) {
      best = key;
      chosen = i;
    }
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(kFullWarp, best, step);
    const int index = __shfl_xor_sync(kFullWarp, chosen, step);
    if (other > best || (other == best && index < chosen)) {
      best = other;
      chosen = index;
    }
  }
  if (chosen >= a.num_experts) {  // of the whole warp alike
    chosen = LowestFree(a, taken);
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2)
      chosen = min(chosen, __shfl_xor_sync(kFullWarp, chosen, step));
    DeviceCheck(chosen < a.num_experts, "K experts are visible");
  }
  if (chosen % kWarp == lane) taken |= 1u << chosen / kWarp;
  return chosen;
}

template <class T, bool kPacks>
__global__ void __launch_bounds__(kThreads, 2) RouterKernel(Arguments<T> a) {
  unsigned char* shared = DynamicShared<unsigned char>();
  T* stages = reinterpret_cast<T*>(shared);
  float* z = reinterpret_cast<float*>(shared + kStages * kStageBytes);
  // [M], then the number of tokens that are off.
  int* counts = reinterpret_cast<int*>(z + kTokens * a.num_experts);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t first_token = int64_t{blockIdx.x} * kTokens;
  for (int i = threadIdx.x; i <= a.num_experts; i += kThreads) counts[i] = 0;
  ComputeLogits<T, kPacks>(a, first_token, stages, z);

#pragma unroll 1
  for (int t = 0; t < kTokensPerWarp; ++t) {
    const int64_t token = first_token + warp * kTokensPerWarp + t;
    if (token >= a.num_tokens) break;
    float* row = z + (warp * kTokensPerWarp + t) * a.num_experts;
    const int64_t at = token * a.num_experts;
    for (int i = lane; i < a.num_experts; i += kWarp) a.logits[at + i] = row[i];
    ScoreRow(a.kind, a.router, row);
    for (int i = lane; i < a.num_experts; i += kWarp) a.scores[at + i] = row[i];
    __syncwarp();
    unsigned taken = 0;
    bool positive = false;
#pragma unroll 1
    for (int k = 0; k < a.top_k; ++k) {
      const int expert = ChooseExpert(a, row, taken);
      positive |= row[expert] > 0;
      if (lane != 0) continue;
      a.experts[token * a.top_k + k] = expert;
      a.weights[token * a.top_k + k] = row[expert];
      atomicAdd(&counts[expert], 1);
    }
    if (lane == 0 && !positive) atomicAdd(&counts[a.num_experts], 1);
  }
  __syncthreads();

  const int64_t rest = a.num_tokens - first_token;
  const int block_tokens = rest < kTokens ? static_cast<int>(rest) : kTokens;
  for (int i = threadIdx.x; i < a.num_experts; i += kThreads) {
    float sum = 0;
    for (int t = 0; t < block_tokens; ++t) sum += z[t * a.num_experts + i];
    a.partial_sum[int64_t{blockIdx.x} * a.num_experts + i] = sum;
    if (counts[i] > 0) atomicAdd(&a.counts[i], static_cast<unsigned long long>(counts[i]));
  }
  if (threadIdx.x == 0 && counts[a.num_experts] > 0) {
    atomicAdd(a.num_off, static_cast<unsigned long long>(counts[a.num_experts]));
  }
}

}  // namespace

void RouterForward(Stream& stream, const RouterScoreSpec& spec, const RouterInputs& in,
                   const RouterOutputs& out) {
  const int64_t num_tokens = in.x.rows(), width = in.x.dim(1), num_experts = in.weight.rows();
  const int64_t num_blocks = CeilDiv(num_tokens, kTokens);
  CHECK_LE(num_experts, kMostCudaExperts) << "RouterForward on CUDA";
  CHECK_LE(out.experts.dim(1), num_experts) << "top-k needs as many experts";
  if (num_blocks == 0) return;
  float* partial_sum = static_cast<float*>(
      stream.Scratch(RouterForwardScratchBytes(Device::kCuda, in.x.dtype, num_tokens, num_experts)));
  const auto optional = [](const Tensor& tensor) { return tensor.empty() ? nullptr : tensor.as<float>(); };
  DispatchDevice("RouterForward", in.x.dtype, [&]<class T>() {
    const Arguments<T> arguments = {
        .num_tokens = num_tokens,
        .width = width,
        .num_experts = static_cast<int>(num_experts),
        .top_k = static_cast<int>(out.experts.dim(1)),
        .kind = spec.kind,
        .router = {.num_experts = static_cast<int>(num_experts),
                   .constant = static_cast<float>(spec.constant),
                   .sigma = optional(in.sigma),
                   .visible = in.visible.as<float>(),
                   .attenuation = optional(spec.attenuation)},
        .x = in.x.as<T>(),
        .weight = in.weight.as<T>(),
        .weight_low = in.weight_low.empty() ? nullptr : in.weight_low.as<T>(),
        .bias = optional(in.bias),
        .bias_reach = in.bias_reach,
        .logits = out.logits.as<float>(),
        .scores = out.scores.as<float>(),
        .partial_sum = partial_sum,
        .experts = out.experts.as<int32_t>(),
        .weights = out.weights.as<float>(),
        .counts = reinterpret_cast<unsigned long long*>(out.counts.as<int64_t>()),
        .num_off = reinterpret_cast<unsigned long long*>(out.num_off.as<int64_t>())};
    const LaunchShape shape = {
        .grid = static_cast<unsigned>(num_blocks),
        .block = kThreads,
        .shared_bytes = kStages * kStageBytes + ((kTokens + 1) * num_experts + 1) * int64_t{sizeof(float)}};
    const bool packs = RowsAllowPacks(width, {&in.x, &in.weight, &in.weight_low});
    Launch("RouterForward", packs ? &RouterKernel<T, true> : &RouterKernel<T, false>, shape, stream,
           arguments);
  });
  FoldColumns("RouterForward sum", stream, num_blocks, num_experts, partial_sum, out.score_sum.as<double>());
}

}  // namespace unipool::cuda
