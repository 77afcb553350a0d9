// Router scores of one layer: logits z = W h become scores s, and back (UniPool, arXiv 2605.06665).
//   NORM     s = sigma * c * relu(v z / (|v z|_2 + 1e-8))         sigma learnable
//   SOFTMAX  s = softmax over visible experts of z
//   SIGMOID  s = sigmoid(z)                                       (DeepSeek-style)
// v in [0, 1] is `visible`. NORM multiplies the logits by v before the norm. In all kinds an expert with
// v = 0 has score 0 and gradient 0. Nothing is ever filled with -max. What the router is for:
// models/POOL_LOSS.md.
//
// `attenuation` a in [0, 1] takes experts away that a layer sees (models/visibility.h). NORM and SIGMOID
// multiply the scores above by a: with NORM the logit stays in the norm and keeps its gradient. SOFTMAX
// becomes a exp(z) / sum of a exp(z). An expert with a = 0 has score 0 and is never chosen.
//
// To add a kind:
//   1. configs/config.proto: a value of RouterType; the comment of router_constant, if it has a sigma.
//   2. Here: RouterKind, kAllRouterKinds, FactsOf, and its formula above. The formula also stands in the
//      table of models/POOL_LOSS.md, "The router".
//   3. models/settings.cc: RouterKindOf. models/router.cc, if it learns a parameter besides weight and sigma
//      (models/README.md has the places of a parameter).
//   4. kernels/cpu/router_kinds.h and kernels/cuda/router_kinds.h: its forward and backward.
//   5. tests/kernels/reference_scores.h: the formula in double. tests/launcher/config_test.cc: two expected
//      messages list all kinds.
//   6. tools/torch/torch_model.py: the parameters where they are declared, and `route`.
// The compiler or a test asks for 2 to 5, but for the table and for a learned parameter. Worth it besides: a
// line in tests/models/settings_test.cc and a model in PresetKinds of tests/models/small_model.h.
#pragma once

#include "runtime/stream.h"

namespace unipool {

enum class RouterKind : uint8_t { kNorm, kSoftmax, kSigmoid };
inline constexpr RouterKind kAllRouterKinds[] = {RouterKind::kNorm, RouterKind::kSoftmax,
                                                 RouterKind::kSigmoid};

struct RouterKindFacts {
  const char* name;  // as configs/config.proto calls it
  bool has_sigma;    // a learnable sigma and the constant c scale the scores; otherwise neither is read
  bool gradient_reads_logits;  // the gradient is computed from the logits; otherwise from the scores
};
constexpr RouterKindFacts FactsOf(RouterKind kind) {
  switch (kind) {
    case RouterKind::kNorm:
      return {"NORM", true, true};
    case RouterKind::kSoftmax:
      return {"SOFTMAX", false, false};
    case RouterKind::kSigmoid:
      return {"SIGMOID", false, false};
  }
  __builtin_trap();
}
inline const char* NameOf(RouterKind kind) {
  return FactsOf(kind).name;
}
constexpr bool HasSigma(RouterKind kind) {
  return FactsOf(kind).has_sigma;
}

// More experts are refused on CUDA. It is what the shared memory of sm_80 holds in RouterForward.
inline constexpr int64_t kMostCudaExperts = 768;

struct RouterScoreSpec {
  RouterKind kind = RouterKind::kNorm;
  double constant = 1.0;  // c; not read unless HasSigma(kind)
  // [M] of the logits' type, 0 where visible is 0; or empty: 1 everywhere, at no cost.
  Tensor attenuation = {};
};

// score_sum[i] += sum over t of s[t, i]. That is the P of the balancing losses, not yet divided by T. F32 and
// F64 on the CPU. A CUDA stream is refused, because RouterForward contains this there. Moves 2 T M elements.
void RouterScoresForward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits /*[T, M]*/,
                         const Tensor& sigma /*[1], or empty unless HasSigma*/, const Tensor& visible /*[M]*/,
                         const Tensor& scores /*[T, M]*/, const Tensor& score_sum /*[M] F64*/);
int64_t RouterScoresForwardScratchBytes(DType dtype, int64_t num_experts /*M*/);

// Gradient of  sum_tk dchosen[t, k] * s[t, experts[t, k]]  +  sum_ti aux[i] * s[t, i]  with respect to the
// logits (overwritten) and sigma (+=; untouched unless HasSigma). aux reaches every positive score, chosen or
// not. importance[i] += sum of s * dchosen over the rows that chose i; that is the task loss alone, without
// aux. A tensor that names no type has the logits' type: F32 or F64 on the CPU, F32 on CUDA. Moves 2 T M
// elements (logits or scores, as gradient_reads_logits says; dlogits) and 2 T K numbers, and with importance
// T K scores more where the gradient reads logits. On CUDA the bits depend on the inputs alone.
struct RouterScoreGrads {
  Tensor experts;     // [T, K] I32
  Tensor dchosen;     // [T, K]
  Tensor aux;         // [M]
  Tensor dlogits;     // [T, M] out
  Tensor dsigma;      // [1] +=, or empty unless HasSigma
  Tensor importance;  // [M] F64 +=, or empty
};
void RouterScoresBackward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                          const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                          const RouterScoreGrads& grads);
// On the CPU it is used with an attenuation only.
int64_t RouterScoresBackwardScratchBytes(Device device, int64_t num_tokens /*T*/, int64_t num_experts /*M*/);

// c(M, k) of NormRouter = E[1 / |top-k of relu(x/|x|)|_2] with x ~ N(0, I_M), from 1e5 samples of a fixed
// seed. Above M = 1024 there are fewer samples, so that M * samples stays the same. M counts the experts that
// a layer can see. Below M = 32 that mean is infinite, because all logits of a row can be <= 0; there it is
// 1 / median. c(1, 1) = 1. Checked within 0.5 %: c(96, 1) = 4.012, c(384, 4) = 3.761. It takes up to a
// second, so the caller should keep the result.
double RouterConstant(int num_experts, int top_k);

}  // namespace unipool
