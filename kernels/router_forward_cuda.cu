// A block takes some tokens: first their logits with all experts, a tile of experts at a time, through shared
// memory; then a warp per token makes scores and choices of them. A step of the product stages one slice of
// the tokens, of the weight and of its low part, so a token is read once for each tile of experts.
#include <cfloat>

#include "kernels/cuda/fold_columns.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/router_kinds.h"
#include "kernels/cuda/router_tile.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

using namespace router;  // of router_tile.h

template <class T>
struct Arguments {
  int64_t num_tokens, width;
  int num_experts, top_k;
  RouterKind kind;
  RouterView router;
  const T *x, *weight, *weight_low;
  const float* bias;
  BiasReach bias_reach;
  float *logits, *scores, *partial_sum;  // partial_sum [T / kRouterTokens, M]
  int32_t* experts;
  float* weights;
  unsigned long long *counts, *num_off;
};

// Logits of the block's tokens into shared memory, z [kTokens, M]. Ends with a barrier.
template <class T, bool kPacks, class Shape>
__device__ inline void ComputeLogits(const Arguments<T>& a, int64_t first_token, T* stages, float* z) {
  const int parts = a.weight_low == nullptr ? 1 : 2;
  const int stage_size = (Shape::kTokenBytes + parts * Shape::kPartBytes) / static_cast<int>(sizeof(T));
  const int64_t num_steps = (a.width + kSlice<T> - 1) / kSlice<T>;
  const auto stage = [&](int64_t step, int first_expert) {
    T* staged = stages + step % kStages * stage_size;
    const auto rows = [&]<int kRows>(const T* matrix, int64_t first, int64_t num_rows) {
      StageRows<T, kPacks, kRows, Shape::kThreads>(matrix, first, num_rows, a.width, step * kSlice<T>,
                                                   staged);
      staged += kRows * kRow<T>;
    };
    rows.template operator()<Shape::kTokens>(a.x, first_token, a.num_tokens);
    rows.template operator()<Shape::kExperts>(a.weight, first_expert, a.num_experts);
    if (parts == 2) rows.template operator()<Shape::kExperts>(a.weight_low, first_expert, a.num_experts);
  };
  for (int first_expert = 0; first_expert < a.num_experts; first_expert += Shape::kExperts) {
    TileSum<T, Shape> tile;
    stage(0, first_expert);
    CommitCopies();
    for (int64_t step = 0; step < num_steps; ++step) {
      if (step + 1 < num_steps) stage(step + 1, first_expert);
      CommitCopies();
      WaitCopies<1>();
      __syncthreads();
      const T* staged = stages + step % kStages * stage_size;
      tile.Add(staged, staged + Shape::kTokens * kRow<T>, parts, a.num_experts - first_expert);
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

template <class T, bool kPacks, class Shape>
UNIPOOL_KERNEL((Shape::kThreads, 512 / Shape::kThreads), RouterKernel, Arguments<T> a) {
  constexpr int kTokens = Shape::kTokens, kThreads = Shape::kThreads, kTokensPerWarp = Shape::kTokensPerWarp;
  unsigned char* shared = DynamicShared<unsigned char>();
  T* stages = reinterpret_cast<T*>(shared);
  const int parts = a.weight_low == nullptr ? 1 : 2;
  float* z = reinterpret_cast<float*>(shared + kStages * (Shape::kTokenBytes + parts * Shape::kPartBytes));
  // [M], then the number of tokens that are off.
  int* counts = reinterpret_cast<int*>(z + kTokens * a.num_experts);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t first_token = int64_t{blockIdx.x} * kTokens;
  for (int i = threadIdx.x; i <= a.num_experts; i += kThreads) counts[i] = 0;
  ComputeLogits<T, kPacks, Shape>(a, first_token, stages, z);

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

  // A sum for every kRouterTokens tokens, so that it does not depend on the shape.
  const int64_t rest = a.num_tokens - first_token;
  const int block_tokens = rest < kTokens ? static_cast<int>(rest) : kTokens;
  for (int j = threadIdx.x; j < kTokens / kRouterTokens * a.num_experts; j += kThreads) {
    const int part = j / a.num_experts, i = j % a.num_experts, begin = part * kRouterTokens;
    const int end = min(begin + kRouterTokens, block_tokens);
    if (begin >= end) break;
    float sum = 0;
    for (int t = begin; t < end; ++t) sum += z[t * a.num_experts + i];
    a.partial_sum[(first_token / kRouterTokens + part) * a.num_experts + i] = sum;
  }
  for (int i = threadIdx.x; i < a.num_experts; i += kThreads) {
    if (counts[i] > 0) atomicAdd(&a.counts[i], static_cast<unsigned long long>(counts[i]));
  }
  if (threadIdx.x == 0 && counts[a.num_experts] > 0) {
    atomicAdd(a.num_off, static_cast<unsigned long long>(counts[a.num_experts]));
  }
}

// The smallest architecture that we build for, sm_80, has so much shared memory for a block.
constexpr int64_t kMostSharedBytes = 163 << 10;
// Blocks that keep the largest of our devices busy.
constexpr int64_t kBusyBlocks = 128;

// launch<Shape>() with the largest blocks that fit and keep the device busy. Results are the same bits with
// all of them.
template <class T, class Body>
void WithShape(int64_t num_tokens, int64_t num_experts, int parts, Body launch) {
  const auto suits = [&]<class Shape>(Shape) {
    return Shape::SharedBytes(parts, num_experts) <= kMostSharedBytes &&
           CeilDiv(num_tokens, Shape::kTokens) >= kBusyBlocks;
  };
  using Large = BlockShape<128, 128>;
  using Middle = BlockShape<64, std::is_same_v<T, float> ? 64 : 128>;  // more sums of F32 spill registers
  if constexpr (!std::is_same_v<T, float>) {
    if (suits(Large())) return launch.template operator()<Large>();
  }
  if (suits(Middle())) return launch.template operator()<Middle>();
  launch.template operator()<BlockShape<32, 64>>();
}

}  // namespace

void RouterForward(Stream& stream, const RouterScoreSpec& spec, const RouterInputs& in,
                   const RouterOutputs& out) {
  const int64_t num_tokens = in.x.rows(), width = in.x.dim(1), num_experts = in.weight.rows();
  CHECK_LE(num_experts, kMostCudaExperts) << "RouterForward on CUDA";
  CHECK_LE(out.experts.dim(1), num_experts) << "top-k needs as many experts";
  if (num_tokens == 0) return;
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
    const bool packs = RowsAllowPacks(width, {&in.x, &in.weight, &in.weight_low});
    const int parts = in.weight_low.empty() ? 1 : 2;
    WithShape<T>(num_tokens, num_experts, parts, [&]<class Shape>() {
      const LaunchShape shape = {.grid = static_cast<unsigned>(CeilDiv(num_tokens, Shape::kTokens)),
                                 .block = Shape::kThreads,
                                 .shared_bytes = Shape::SharedBytes(parts, num_experts)};
      Launch("RouterForward", packs ? &RouterKernel<T, true, Shape> : &RouterKernel<T, false, Shape>, shape,
             stream, arguments);
    });
  });
  FoldColumns("RouterForward sum", stream, CeilDiv(num_tokens, kRouterTokens), num_experts, partial_sum,
              out.score_sum.as<double>());
}

}  // namespace unipool::cuda
