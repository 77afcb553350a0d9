#include "kernels/router_scores.h"

#include <cmath>
#include <limits>

#include "kernels/check_tensor.h"
#include "kernels/cpu/fast_exp.h"
#include "kernels/cpu/vector_reduce.h"
#include "kernels/cuda/launchers.h"

namespace unipool {
namespace {

constexpr double kNormEpsilon = 1e-8;

// One layer's router as all its rows see it. M experts.
template <class T>
struct Router {
  RouterKind kind;
  int64_t num_experts;
  T scale;           // sigma * c
  const T* visible;  // [M]
  const T* offsets;  // [M] 0 where visible, -infinity elsewhere; SOFTMAX only
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
void ScoreRow(const Router<T>& router, const T* z, T* s) {
  switch (router.kind) {
    case RouterKind::kNorm:
      return NormScores(router, z, s);
    case RouterKind::kSoftmax:
      return SoftmaxScores(router, z, s);
    case RouterKind::kSigmoid:
      return SigmoidScores(router, z, s);
  }
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

// dLoss/dz = g s (1 - s).
template <class T>
void SigmoidGradient(const Router<T>& router, const T* s, const ScoreGrad<T>& grad, T* dz) {
  for (int64_t i = 0; i < router.num_experts; ++i) dz[i] = grad.aux[i] * (s[i] * (T(1) - s[i]));
  for (int64_t k = 0; k < grad.top_k; ++k) {
    const T score = s[grad.experts[k]];
    dz[grad.experts[k]] += grad.dchosen[k] * (score * (T(1) - score));
  }
}

// Returns dLoss/dscale (0 unless NORM).
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
  return 0;
}

template <class T>
Router<T> MakeRouter(const RouterScoreSpec& spec, const Tensor& sigma, const Tensor& visible) {
  Router<T> router = {spec.kind, visible.rows(), T(0), visible.as<T>(), nullptr};
  if (spec.kind == RouterKind::kNorm) router.scale = static_cast<T>(spec.constant * sigma.as<T>()[0]);
  return router;
}

template <class T>
const T* SoftmaxOffsets(Stream& stream, const Tensor& visible) {
  const int64_t n = visible.rows();
  T* offsets = static_cast<T*>(stream.Scratch(n * sizeof(T)));
  int64_t num_visible = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool seen = visible.as<T>()[i] > 0;
    offsets[i] = seen ? T(0) : -std::numeric_limits<T>::infinity();
    num_visible += seen;
  }
  CHECK_GT(num_visible, 0) << "a softmax over " << n << " experts of which none is visible";
  return offsets;
}

template <class T>
void AddImportance(const T* scores, const ScoreGrad<T>& grad, double* importance) {
  for (int64_t k = 0; k < grad.top_k; ++k) {
    const int64_t i = grad.experts[k];
    importance[i] += static_cast<double>(scores[i]) * grad.dchosen[k];
  }
}

template <class T>
void CheckExperts(int64_t num_experts, const ScoreGrad<T>& grad) {
  for (int64_t k = 0; k < grad.top_k; ++k) {
    CHECK(grad.experts[k] >= 0 && grad.experts[k] < num_experts)
        << "expert " << grad.experts[k] << " of " << num_experts;
  }
}

void CheckBackward(RouterKind kind, const Tensor& logits, const Tensor& sigma, const Tensor& visible,
                   const Tensor& scores, const RouterScoreGrads& grads) {
  const int64_t num_tokens = logits.rows(), num_experts = logits.dim(1), top_k = grads.experts.dim(1);
  const DType dtype = logits.dtype;
  CheckTensor("RouterScoresBackward logits", logits, dtype, {num_tokens, num_experts});
  if (kind == RouterKind::kNorm) {
    CheckTensor("RouterScoresBackward sigma", sigma, dtype, {1});
    CheckTensor("RouterScoresBackward dsigma", grads.dsigma, dtype, {1});
  }
  CheckTensor("RouterScoresBackward visible", visible, dtype, {num_experts});
  CheckTensor("RouterScoresBackward scores", scores, dtype, {num_tokens, num_experts});
  CheckTensor("RouterScoresBackward experts", grads.experts, DType::kI32, {num_tokens, top_k});
  CheckTensor("RouterScoresBackward dchosen", grads.dchosen, dtype, {num_tokens, top_k});
  CheckTensor("RouterScoresBackward aux", grads.aux, dtype, {num_experts});
  CheckTensor("RouterScoresBackward dlogits", grads.dlogits, dtype, {num_tokens, num_experts});
  if (!grads.importance.empty()) {
    CheckTensor("RouterScoresBackward importance", grads.importance, DType::kF64, {num_experts});
  }
}

}  // namespace

void RouterScoresForward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                         const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                         const Tensor& score_sum) {
  CHECK(stream.device() == Device::kCpu)
      << "RouterScoresForward has no CUDA kernel of its own: RouterForward contains it";
  const int64_t num_tokens = logits.rows(), num_experts = logits.dim(1);
  CheckTensor("RouterScoresForward logits", logits, logits.dtype, {num_tokens, num_experts});
  if (spec.kind == RouterKind::kNorm) CheckTensor("RouterScoresForward sigma", sigma, logits.dtype, {1});
  CheckTensor("RouterScoresForward visible", visible, logits.dtype, {num_experts});
  CheckTensor("RouterScoresForward scores", scores, logits.dtype, {num_tokens, num_experts});
  CheckTensor("RouterScoresForward score_sum", score_sum, DType::kF64, {num_experts});
  const double flops = spec.kind == RouterKind::kNorm ? 6 : kFastExpFlops + 4;
  KernelScope scope(stream, Op::kRouter, flops * logits.size(),
                    2.0 * logits.bytes() + visible.bytes() + 2.0 * score_sum.bytes());
  DispatchFloat(logits.dtype, [&]<class T>() {
    Router<T> router = MakeRouter<T>(spec, sigma, visible);
    if (spec.kind == RouterKind::kSoftmax) router.offsets = SoftmaxOffsets<T>(stream, visible);
    double* sum = score_sum.as<double>();
    for (int64_t t = 0; t < num_tokens; ++t) {
      T* row = scores.as<T>() + t * num_experts;
      ScoreRow(router, logits.as<T>() + t * num_experts, row);
      for (int64_t i = 0; i < num_experts; ++i) sum[i] += row[i];
    }
  });
}

void RouterScoresBackward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                          const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                          const RouterScoreGrads& grads) {
  CheckBackward(spec.kind, logits, sigma, visible, scores, grads);
  const int64_t num_tokens = logits.rows(), num_experts = logits.dim(1), top_k = grads.experts.dim(1);
  const double read_per_row = spec.kind == RouterKind::kNorm ? logits.bytes() : scores.bytes();
  KernelScope scope(stream, Op::kRouter, 12.0 * logits.size(),
                    read_per_row + grads.dlogits.bytes() + visible.bytes() + grads.aux.bytes() +
                        grads.experts.bytes() + grads.dchosen.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::RouterScoresBackward(stream, spec, logits, sigma, visible, scores, grads);
  }
  DispatchFloat(logits.dtype, [&]<class T>() {
    const Router<T> router = MakeRouter<T>(spec, sigma, visible);
    double dscale = 0;
    for (int64_t t = 0; t < num_tokens; ++t) {
      const int64_t at = t * num_experts, chosen = t * top_k;
      const ScoreGrad<T> grad = {grads.aux.as<T>(), top_k, grads.experts.as<int32_t>() + chosen,
                                 grads.dchosen.as<T>() + chosen};
      CheckExperts(num_experts, grad);
      const T* s = scores.as<T>() + at;
      dscale += RowGradient(router, logits.as<T>() + at, s, grad, grads.dlogits.as<T>() + at);
      if (!grads.importance.empty()) AddImportance(s, grad, grads.importance.as<double>());
    }
    if (spec.kind == RouterKind::kNorm) grads.dsigma.as<T>()[0] += static_cast<T>(dscale * spec.constant);
  });
}

}  // namespace unipool
