// A warp takes a token at a time. An expert's elements of a row, and its sums over the warp's rows, belong to
// one lane, so that no order is left to chance.
#include "kernels/cuda/fold_columns.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/router_kinds.h"

namespace unipool::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kTokensPerWarp = 4, kTokens = kWarps * kTokensPerWarp;
// Room for 80 registers a thread. Left alone, ptxas stops at 40 for sm_100 and spills.
constexpr int kBlocksPerProcessor = 3;
static_assert(kTokens == kRouterTokens);

struct Arguments {
  int64_t num_tokens;
  int num_experts, top_k;
  RouterView router;
  const float *aux, *logits, *scores, *dchosen;
  const int32_t* experts;
  float *dlogits, *importance;  // importance [blocks, M], or null
  double* dscale;               // [blocks], HasSigma only
};

// Adds dchosen of one token to `chosen` [M], which was 0. A warp calls it.
__device__ inline void SpreadChoices(const Arguments& a, int64_t token, float* chosen) {
  const int lane = threadIdx.x % kWarp;
  for (int first = 0; first < a.top_k; first += kWarp) {
    int expert = 0;
    float gradient = 0;
    if (first + lane < a.top_k) {
      expert = a.experts[token * a.top_k + first + lane];
      gradient = a.dchosen[token * a.top_k + first + lane];
      DeviceCheck(expert >= 0 && expert < a.num_experts, "experts of RouterScoresBackward are in [0, M)");
    }
    for (int k = 0; k < kWarp && first + k < a.top_k; ++k) {
      const int to = __shfl_sync(kFullWarp, expert, k);
      const float added = __shfl_sync(kFullWarp, gradient, k);
      if (lane == 0) chosen[to] += added;
    }
  }
  __syncwarp();
}

// What the gradient of the kind is computed from.
template <RouterKind kKind>
__device__ inline const float* RowsOf(const Arguments& a) {
  return kGradientReadsLogits<kKind> ? a.logits : a.scores;
}

// Writes the row's gradient, adds the chosen experts' share to `importance` [M] and leaves `chosen` 0.
template <RouterKind kKind, int kPack>
__device__ inline void WriteRow(const Arguments& a, const RowFactors& factors, int64_t at, float* chosen,
                                float* importance) {
  const float* row = RowsOf<kKind>(a) + at;
  for (int j = threadIdx.x % kWarp * kPack; j < a.num_experts; j += kWarp * kPack) {
    const auto x = LoadPack<kPack>(row + j), aux = LoadPack<kPack>(a.aux + j),
               added = LoadPack<kPack>(chosen + j);
    const auto v = LoadPack<kPack>(a.router.visible + j);
    Pack<float, kPack> dz;
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      dz.value[e] = RouterRow<kKind>::Gradient(factors, x.value[e], v.value[e], a.router.AttenuationOf(j + e),
                                               aux.value[e] + added.value[e]);
      if (added.value[e] == 0) continue;
      importance[j + e] += a.scores[at + j + e] * added.value[e];
      chosen[j + e] = 0;
    }
    StorePack(a.dlogits + at + j, dz);
  }
  __syncwarp();
}

// Dynamic shared memory: [2 kWarps, M], what each warp needs for `chosen` and `importance`.
template <RouterKind kKind, int kPack>
UNIPOOL_KERNEL((kThreads, kBlocksPerProcessor), BackwardKernel, Arguments a) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, n = a.num_experts;
  float* all_importance = DynamicShared<float>() + kWarps * n;
  float *chosen = DynamicShared<float>() + warp * n, *importance = all_importance + warp * n;
  for (int i = lane; i < n; i += kWarp) chosen[i] = importance[i] = 0;
  __syncwarp();
  double dscale = 0;
  const int64_t first = int64_t{blockIdx.x} * kTokens + warp * kTokensPerWarp;
#pragma unroll 1
  for (int64_t token = first; token < first + kTokensPerWarp && token < a.num_tokens; ++token) {
    const int64_t at = token * n;
    SpreadChoices(a, token, chosen);
    const RowFactors factors =
        RouterRow<kKind>::template Factors<kPack>(a.router, RowsOf<kKind>(a) + at, a.aux, chosen);
    if constexpr (kHasSigma<kKind>) dscale += factors.dscale;
    WriteRow<kKind, kPack>(a, factors, at, chosen, importance);
  }
  if constexpr (kHasSigma<kKind>) {
    dscale = BlockSum(lane == 0 ? dscale : 0.0);
    if (threadIdx.x == 0) a.dscale[blockIdx.x] = dscale;
  }
  if (!a.importance) return;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += kThreads) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += all_importance[w * n + i];
    a.importance[int64_t{blockIdx.x} * n + i] = sum;
  }
}

// dsigma += constant * the sum of dscale, by one block.
UNIPOOL_KERNEL((kThreads), FoldSigmaKernel, int64_t num_blocks, const double* dscale, float constant,
               float* dsigma) {
  double sum = 0;
  for (int64_t b = threadIdx.x; b < num_blocks; b += kThreads) sum += dscale[b];
  sum = BlockSum(sum);
  if (threadIdx.x == 0) dsigma[0] += static_cast<float>(sum * constant);
}

template <RouterKind kKind>
void LaunchBackward(Stream& stream, const Arguments& arguments, int64_t num_blocks, bool packs) {
  const LaunchShape shape = {.grid = static_cast<unsigned>(num_blocks),
                             .block = kThreads,
                             .shared_bytes = 2 * kWarps * arguments.num_experts * int64_t{sizeof(float)}};
  Launch("RouterScoresBackward", packs ? &BackwardKernel<kKind, kPackOf16<float>> : &BackwardKernel<kKind, 1>,
         shape, stream, arguments);
}

}  // namespace

void RouterScoresBackward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                          const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                          const RouterScoreGrads& grads) {
  const int64_t num_tokens = logits.rows(), num_experts = logits.dim(1);
  const int64_t num_blocks = CeilDiv(num_tokens, kTokens);
  CHECK_LE(num_experts, kMostCudaExperts) << "RouterScoresBackward on CUDA";
  CHECK(logits.dtype == DType::kF32) << "RouterScoresBackward on CUDA: logits are " << NameOf(logits.dtype);
  if (num_blocks == 0 || num_experts == 0) return;
  const bool weighs = !grads.importance.empty(), scales = HasSigma(spec.kind);
  auto* dscale = static_cast<double*>(
      stream.Scratch(RouterScoresBackwardScratchBytes(Device::kCuda, num_tokens, num_experts)));
  auto* importance = reinterpret_cast<float*>(dscale + num_blocks);
  const Arguments arguments = {
      .num_tokens = num_tokens,
      .num_experts = static_cast<int>(num_experts),
      .top_k = static_cast<int>(grads.experts.dim(1)),
      .router = {.num_experts = static_cast<int>(num_experts),
                 .constant = static_cast<float>(spec.constant),
                 .sigma = scales ? sigma.as<float>() : nullptr,
                 .visible = visible.as<float>(),
                 .attenuation = spec.attenuation.empty() ? nullptr : spec.attenuation.as<float>()},
      .aux = grads.aux.as<float>(),
      .logits = logits.as<float>(),
      .scores = scores.as<float>(),
      .dchosen = grads.dchosen.as<float>(),
      .experts = grads.experts.as<int32_t>(),
      .dlogits = grads.dlogits.as<float>(),
      .importance = weighs ? importance : nullptr,
      .dscale = dscale};
  const bool packs = RowsAllowPacks(num_experts, {&logits, &visible, &scores, &grads.aux, &grads.dlogits});
  WithRouterKind(spec.kind,
                 [&]<RouterKind kKind>() { LaunchBackward<kKind>(stream, arguments, num_blocks, packs); });
  if (weighs) {
    FoldColumns("RouterScoresBackward importance", stream, num_blocks, num_experts, importance,
                grads.importance.as<double>());
  }
  if (scales) {
    Launch("RouterScoresBackward dsigma", &FoldSigmaKernel, {.grid = 1, .block = kThreads}, stream,
           num_blocks, dscale, arguments.router.constant, grads.dsigma.as<float>());
  }
}

}  // namespace unipool::cuda
