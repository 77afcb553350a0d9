// What one kind of router does with one token's row on a CUDA device: its scores, and their gradient. All
// that depends on the kind is here; router_forward_cuda.cu and router_scores_cuda.cu have what all kinds
// share. The formulas: kernels/router_scores.h. Both run on one warp per row.
#pragma once

#include "kernels/cuda/rows.h"
#include "kernels/router_scores.h"

namespace unipool::cuda {

// Facts of a kind as constants, since device code calls no constexpr function of the host.
template <RouterKind kKind>
inline constexpr bool kHasSigma = HasSigma(kKind);
template <RouterKind kKind>
inline constexpr bool kGradientReadsLogits = FactsOf(kKind).gradient_reads_logits;

// One layer's router as all its rows see it.
struct RouterView {
  int num_experts;  // M
  float constant;
  const float *sigma, *visible;  // [1], not read unless HasSigma; [M]
  const float* attenuation;      // [M], or null: 1 everywhere

  __device__ inline float AttenuationOf(int i) const { return attenuation ? attenuation[i] : 1.0f; }
  __device__ inline bool MayChoose(int i) const { return (attenuation ? attenuation : visible)[i] > 0; }
};

// What all elements of one row's gradient share.
struct RowFactors {
  float along, across;
  float dscale;  // gradient of sigma * c; 0 unless HasSigma
};

// A row of a kind is a struct of:
//   Score(router, z)     turns the logits z [M] into scores, in place
//   Factors<kPack>(...)  the sums over a row that its gradient needs. `row` [M] are its logits or scores, as
//                        FactsOf(kind) says. g = aux + chosen [M] is the gradient of the row's scores
//   Gradient(...)        dLoss/dz of one expert, whose logit or score is x, visibility v and attenuation a
// A kind without its row does not compile.
template <RouterKind kKind>
struct RouterRow;

// add(x, v, a, g) for every expert that the lane has.
template <int kPack, class Add>
__device__ inline void ForLaneExperts(const RouterView& router, const float* row, const float* aux,
                                      const float* chosen, Add add) {
  for (int j = threadIdx.x % kWarp * kPack; j < router.num_experts; j += kWarp * kPack) {
    const auto x = LoadPack<kPack>(row + j), of_all = LoadPack<kPack>(aux + j),
               added = LoadPack<kPack>(chosen + j);
    const auto v = LoadPack<kPack>(router.visible + j);
#pragma unroll
    for (int e = 0; e < kPack; ++e)
      add(x.value[e], v.value[e], router.AttenuationOf(j + e), of_all.value[e] + added.value[e]);
  }
}

// With u = v z, n = |u|, d = n + eps: dz = v (a g along - u across), where g counts for u > 0 alone.
template <>
struct RouterRow<RouterKind::kNorm> {
  static constexpr float kNormEpsilon = 1e-8f;

  static __device__ inline void Score(const RouterView& router, float* z) {
    const int lane = threadIdx.x % kWarp;
    float squares = 0;
    for (int i = lane; i < router.num_experts; i += kWarp) {
      const float u = router.visible[i] * z[i];
      squares += u * u;
    }
    const float factor = router.sigma[0] * router.constant / (sqrtf(WarpSum(squares)) + kNormEpsilon);
    for (int i = lane; i < router.num_experts; i += kWarp) {
      const float u = router.visible[i] * z[i];
      z[i] = factor * (u > 0 ? u : 0.0f) * router.AttenuationOf(i);
    }
  }

  template <int kPack>
  static __device__ inline RowFactors Factors(const RouterView& router, const float* row, const float* aux,
                                              const float* chosen) {
    float dot = 0, squares = 0;
    ForLaneExperts<kPack>(router, row, aux, chosen, [&](float x, float v, float a, float g) {
      const float u = x * v;
      squares += u * u;
      dot += a * g * (u > 0 ? u : 0.0f);
    });
    dot = WarpSum(dot);
    const float scale = router.sigma[0] * router.constant;
    const float norm = sqrtf(WarpSum(squares)), divisor = norm + kNormEpsilon;
    return {scale / divisor, norm > 0 ? scale * (dot / divisor) / norm / divisor : 0.0f, dot / divisor};
  }

  static __device__ inline float Gradient(const RowFactors& row, float x, float v, float a, float g) {
    const float u = v * x;
    return v * ((u > 0 ? a * g : 0.0f) * row.along - u * row.across);
  }
};

// dz = s (g - across), across = <g, s>.
template <>
struct RouterRow<RouterKind::kSoftmax> {
  static __device__ inline void Score(const RouterView& router, float* z) {
    const int lane = threadIdx.x % kWarp;
    float most = -INFINITY;
    for (int i = lane; i < router.num_experts; i += kWarp) {
      if (router.MayChoose(i)) most = fmaxf(most, z[i]);
    }
    most = WarpMax(most);
    float sum = 0;
    for (int i = lane; i < router.num_experts; i += kWarp) {
      z[i] = router.MayChoose(i) ? expf(z[i] - most) * router.AttenuationOf(i) : 0.0f;
      sum += z[i];
    }
    const float inverse = 1.0f / WarpSum(sum);
    for (int i = lane; i < router.num_experts; i += kWarp) z[i] *= inverse;
  }

  template <int kPack>
  static __device__ inline RowFactors Factors(const RouterView& router, const float* row, const float* aux,
                                              const float* chosen) {
    float dot = 0;
    ForLaneExperts<kPack>(router, row, aux, chosen, [&](float x, float, float, float g) { dot += g * x; });
    return {0, WarpSum(dot), 0};
  }

  static __device__ inline float Gradient(const RowFactors& row, float x, float, float, float g) {
    return x * (g - row.across);
  }
};

// dz = a g s (1 - s), with s before it was attenuated; x = a s.
template <>
struct RouterRow<RouterKind::kSigmoid> {
  static __device__ inline void Score(const RouterView& router, float* z) {
    for (int i = threadIdx.x % kWarp; i < router.num_experts; i += kWarp)
      z[i] = router.MayChoose(i) ? 1.0f / (1.0f + expf(-z[i])) * router.AttenuationOf(i) : 0.0f;
  }

  template <int kPack>
  static __device__ inline RowFactors Factors(const RouterView&, const float*, const float*, const float*) {
    return {};
  }

  static __device__ inline float Gradient(const RowFactors&, float x, float, float a, float g) {
    const float s = a > 0 ? x / a : 0.0f;
    return a * g * (s * (1.0f - s));
  }
};

// The kind's Score, chosen while the kernel runs.
__device__ inline void ScoreRow(RouterKind kind, const RouterView& router, float* z) {
  switch (kind) {
    case RouterKind::kNorm:
      return RouterRow<RouterKind::kNorm>::Score(router, z);
    case RouterKind::kSoftmax:
      return RouterRow<RouterKind::kSoftmax>::Score(router, z);
    case RouterKind::kSigmoid:
      return RouterRow<RouterKind::kSigmoid>::Score(router, z);
  }
  __trap();
}

// body.operator()<kind>(), on the host.
template <class Body>
void WithRouterKind(RouterKind kind, Body body) {
  switch (kind) {
    case RouterKind::kNorm:
      return body.template operator()<RouterKind::kNorm>();
    case RouterKind::kSoftmax:
      return body.template operator()<RouterKind::kSoftmax>();
    case RouterKind::kSigmoid:
      return body.template operator()<RouterKind::kSigmoid>();
  }
  LOG(FATAL) << "no CUDA kernel for router kind " << static_cast<int>(kind);
}

}  // namespace unipool::cuda
