// Router scores of one layer: logits z = W h become scores s, and back. DESIGN section 7 (UniPool, arXiv
// 2605.06665).
//   NORM     s = sigma * c * relu(v z / (|v z|_2 + 1e-8))         sigma learnable
//   SOFTMAX  s = softmax over visible experts of z
//   SIGMOID  s = sigmoid(z)                                       (DeepSeek-style)
// visible v in [0, 1]: NORM multiplies the logits by it before the norm; in all kinds an expert with v = 0
// has score 0 and gradient 0. Nothing is ever filled with -max.
#pragma once

#include "runtime/stream.h"

namespace unipool {

enum class RouterKind : uint8_t { kNorm, kSoftmax, kSigmoid };

// More experts are refused on CUDA: what shared memory of sm_80 holds in router_forward.
inline constexpr int64_t kMostCudaExperts = 768;

struct RouterScoreSpec {
  RouterKind kind = RouterKind::kNorm;
  double constant = 1.0;  // c, NORM only
};

// score_sum[i] += sum over t of s[t, i] (F64): the P of the balancing losses, not yet divided. F32 and F64 on
// the CPU; a CUDA stream is refused, router_forward.h contains it there. Moves 2 T M elements.
void RouterScoresForward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits /*[T, M]*/,
                         const Tensor& sigma /*[1], or empty unless NORM*/, const Tensor& visible /*[M]*/,
                         const Tensor& scores /*[T, M]*/, const Tensor& score_sum /*[M] F64*/);

// Gradient of  sum_tk dchosen[t, k] * s[t, experts[t, k]]  +  sum_ti aux[i] * s[t, i]  with respect to the
// logits (overwritten) and sigma (+=; untouched unless NORM). importance[i] += sum of s * dchosen of the rows
// that chose i, the task loss alone, before aux (F64; may be empty). aux reaches every positive score, chosen
// or not. What names no type has that of the logits: F32 or F64 on the CPU, F32 on CUDA. Moves 2 T M elements
// (logits for NORM, scores for the other kinds; dlogits) and 2 T K numbers, with importance T K scores more
// for NORM. On CUDA the bits depend on the inputs alone; scratch memory there: T (M + 2) / 8 bytes.
struct RouterScoreGrads {
  Tensor experts;     // [T, K] I32
  Tensor dchosen;     // [T, K]
  Tensor aux;         // [M]
  Tensor dlogits;     // [T, M] out
  Tensor dsigma;      // [1] +=, or empty unless NORM
  Tensor importance;  // [M] F64 +=, or empty
};
void RouterScoresBackward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                          const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                          const RouterScoreGrads& grads);

// c(M, k) of NormRouter = E[1 / |top-k of relu(x/|x|)|_2], x ~ N(0, I_M), 1e5 samples, fixed seed; below M =
// 32 that mean is infinite (all logits can be <= 0) and 1 / median is used; c(1, 1) = 1. Checked: c(96, 1)
// = 4.012, c(384, 4) = 3.761 within 0.5 %. M counts the experts a layer can see. Takes up to a second;
// results are worth keeping by the caller.
double RouterConstant(int num_experts, int top_k);

}  // namespace unipool
