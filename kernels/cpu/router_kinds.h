// What one kind of router does with one token's row on the CPU: its scores, and their gradient. All that
// depends on the kind is here; kernels/router_scores.cc has what all kinds share. The formulas:
// kernels/router_scores.h. Each switch over the kind has no default, so a kind that is missing does not
// compile.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/cpu/fast_exp.h"
#include "kernels/cpu/vector_reduce.h"
#include "kernels/router_scores.h"

namespace unipool {

inline constexpr double kNormEpsilon = 1e-8;

// One layer's router as all its rows see it. M experts.
template <class T>
struct Router {
  RouterKind kind;
  int64_t num_experts;
  T scale;                         // sigma * c; 0 unless HasSigma(kind)
  const T* visible;                // [M]
  const T* offsets;                // [M], see ScoreOffsets; or null
  const T* attenuation = nullptr;  // [M], or null: 1 everywhere
};

// Gradient with respect to one row's scores: aux for all experts, dchosen for the chosen.
template <class T>
struct ScoreGrad {
  const T* aux;  // [M]
  int64_t top_k;
  const int32_t* experts;  // [K]
  const T* dchosen;        // [K]
};

template <class T>
T NormOfVisible(const Router<T>& router, const T* z) {
  const T* v = router.visible;
  return std::sqrt(
      VectorSum<T>(router.num_experts, [=](auto at) { return (at(v) * at(z)) * (at(v) * at(z)); }));
}

template <class T>
void NormScores(const Router<T>& router, const T* z, T* s) {
  const T factor = router.scale / (NormOfVisible(router, z) + T(kNormEpsilon));
  for (int64_t i = 0; i < router.num_experts; ++i) {
    const T u = router.visible[i] * z[i];
    s[i] = factor * (u > 0 ? u : T(0));
  }
}

template <class T>
void SoftmaxScores(const Router<T>& router, const T* z, T* s) {
  const int64_t n = router.num_experts;
  const T* offsets = router.offsets;
  const T max = VectorMax<T>(n, [=](auto at) { return at(z) + at(offsets); });
  for (int64_t i = 0; i < n; ++i) s[i] = FastExp(z[i] + offsets[i] - max);
  const T inverse = T(1) / VectorSum<T>(n, [=](auto at) { return at(s); });
  for (int64_t i = 0; i < n; ++i) s[i] *= inverse;
}

template <class T>
void SigmoidScores(const Router<T>& router, const T* z, T* s) {
  for (int64_t i = 0; i < router.num_experts; ++i) {
    const T sigmoid = T(1) / (T(1) + FastExp(-z[i]));
    s[i] = router.visible[i] > 0 ? sigmoid : T(0);
  }
}

template <class T>
void AttenuateScores(const Router<T>& router, T* s) {
  if (!router.attenuation) return;
  for (int64_t i = 0; i < router.num_experts; ++i) s[i] *= router.attenuation[i];
}

template <class T>
void ScoreRow(const Router<T>& router, const T* z, T* s) {
  switch (router.kind) {
    case RouterKind::kNorm:
      NormScores(router, z, s);
      return AttenuateScores(router, s);
    case RouterKind::kSoftmax:
      return SoftmaxScores(router, z, s);  // its offsets attenuate
    case RouterKind::kSigmoid:
      SigmoidScores(router, z, s);
      return AttenuateScores(router, s);
  }
  LOG(FATAL) << "no scores for router kind " << static_cast<int>(router.kind);
}

// With u = v z, n = |u|, d = n + eps, g = dLoss/ds where u > 0 and 0 elsewhere:
//   dLoss/dz = v scale (g / d - u <g, u> / (n d^2)).  Returns dLoss/dscale = <g, u> / d.
// A row without a positive logit has g = 0, hence gradient 0, also where n = 0.
template <class T>
double NormGradient(const Router<T>& router, const T* z, const ScoreGrad<T>& grad, T* dz) {
  const T* v = router.visible;
  const T* aux = grad.aux;
  T dot = VectorSum<T>(router.num_experts, [=](auto at) {
    auto u = at(v) * at(z);
    return (u > T(0) ? at(aux) : decltype(u){}) * u;
  });
  for (int64_t k = 0; k < grad.top_k; ++k) {
    const T u = v[grad.experts[k]] * z[grad.experts[k]];
    if (u > 0) dot += grad.dchosen[k] * u;
  }
  const T norm = NormOfVisible(router, z), divisor = norm + T(kNormEpsilon);
  const T along = router.scale / divisor;
  const T across = norm > 0 ? router.scale * (dot / divisor) / norm / divisor : T(0);
  for (int64_t i = 0; i < router.num_experts; ++i) {
    const T u = v[i] * z[i], g = aux[i];
    dz[i] = v[i] * ((u > 0 ? g : T(0)) * along - u * across);
  }
  for (int64_t k = 0; k < grad.top_k; ++k) {
    const int64_t i = grad.experts[k];
    if (v[i] * z[i] > 0) dz[i] += v[i] * (grad.dchosen[k] * along);
  }
  return dot / divisor;
}

// dLoss/dz = s (g - <g, s>); s is 0 where not visible.
template <class T>
void SoftmaxGradient(const Router<T>& router, const T* s, const ScoreGrad<T>& grad, T* dz) {
  const T* aux = grad.aux;
  T dot = VectorSum<T>(router.num_experts, [=](auto at) { return at(aux) * at(s); });
  for (int64_t k = 0; k < grad.top_k; ++k) dot += grad.dchosen[k] * s[grad.experts[k]];
  for (int64_t i = 0; i < router.num_experts; ++i) dz[i] = s[i] * (aux[i] - dot);
  for (int64_t k = 0; k < grad.top_k; ++k) dz[grad.experts[k]] += s[grad.experts[k]] * grad.dchosen[k];
}

// dLoss/dz = g s (1 - s), with s before it was attenuated.
template <class T>
void SigmoidGradient(const Router<T>& router, const T* s, const ScoreGrad<T>& grad, T* dz) {
  for (int64_t i = 0; i < router.num_experts; ++i) dz[i] = grad.aux[i] * (s[i] * (T(1) - s[i]));
  for (int64_t k = 0; k < grad.top_k; ++k) {
    const T score = s[grad.experts[k]];
    dz[grad.experts[k]] += grad.dchosen[k] * (score * (T(1) - score));
  }
}

// Returns dLoss/dscale, which is 0 unless HasSigma(router.kind).
template <class T>
double RowGradient(const Router<T>& router, const T* z, const T* s, const ScoreGrad<T>& grad, T* dz) {
  switch (router.kind) {
    case RouterKind::kNorm:
      return NormGradient(router, z, grad, dz);
    case RouterKind::kSoftmax:
      SoftmaxGradient(router, s, grad, dz);
      return 0;
    case RouterKind::kSigmoid:
      SigmoidGradient(router, s, grad, dz);
      return 0;
  }
  LOG(FATAL) << "no gradient for router kind " << static_cast<int>(router.kind);
}

// Scratch memory, [M]: the logarithm of the attenuation where visible, -infinity elsewhere. Adding it hides
// experts without a branch.
template <class T>
const T* SoftmaxOffsets(const Tensor& visible, const T* attenuation, Stream& stream) {
  const int64_t n = visible.rows();
  T* offsets = static_cast<T*>(stream.Scratch(RouterScoresForwardScratchBytes(visible.dtype, n)));
  int64_t num_visible = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool seen = (attenuation ? attenuation : visible.as<T>())[i] > 0;
    offsets[i] = !seen ? -std::numeric_limits<T>::infinity() : attenuation ? std::log(attenuation[i]) : T(0);
    num_visible += seen;
  }
  CHECK_GT(num_visible, 0) << "a softmax over " << n << " experts of which none is visible";
  return offsets;
}

// What ScoreRow adds to the logits of each row, made once per call; null where the kind needs none.
template <class T>
const T* ScoreOffsets(RouterKind kind, const Tensor& visible, const T* attenuation, Stream& stream) {
  switch (kind) {
    case RouterKind::kSoftmax:
      return SoftmaxOffsets<T>(visible, attenuation, stream);
    case RouterKind::kNorm:
    case RouterKind::kSigmoid:
      return nullptr;
  }
  LOG(FATAL) << "no offsets for router kind " << static_cast<int>(kind);
}

// Arithmetic of the forward, for the account of costs.
inline double FlopsPerScore(RouterKind kind) {
  switch (kind) {
    case RouterKind::kNorm:
      return 6;
    case RouterKind::kSoftmax:
    case RouterKind::kSigmoid:
      return kFastExpFlops + 4;
  }
  LOG(FATAL) << "no cost for router kind " << static_cast<int>(kind);
}

}  // namespace unipool
