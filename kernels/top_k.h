// The K experts of each token, in falling order: the largest score + bias among visible experts, ties to the
// lower index. It runs on the CPU alone, in F32 or F64. On CUDA RouterForward (router_forward.h) contains it.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Which scores a bias moves in the choice.
enum class BiasReach : uint8_t {
  kEveryScore,
  // An expert of positive score comes before every other, whatever their biases; among the others the lowest
  // index comes first. So no bias can switch a token off that has a positive score.
  kPositiveScores,
};
struct ChoiceBias {
  Tensor values;  // [M] of the scores' type, or empty
  BiasReach reach = BiasReach::kEveryScore;
};

// weights[t, k] is the score itself, without the bias. counts[i] += rows that chose i, also those that chose
// it with score 0. Returns the number of tokens whose chosen experts all have score 0; their FFN is off.
// Without a bias, or with kPositiveScores, these are the tokens without a positive score. Where fewer than K
// visible experts have a score + bias above -infinity (the others are NaN), the lowest ones of the others
// follow. Their weights are then no numbers, and neither is the loss. REQUIRES: K <= visible experts. visible
// [M] has scores' dtype.
// Moves T M scores, T K experts and weights each, bias and visible once, and counts twice.
int64_t TopK(Stream& stream, const Tensor& scores /*[T, M]*/, const ChoiceBias& bias, const Tensor& visible,
             const Tensor& experts /*[T, K] I32*/, const Tensor& weights /*[T, K]*/,
             const Tensor& counts /*[M] I64*/);
int64_t TopKScratchBytes(DType dtype, int64_t num_experts /*M*/);

}  // namespace unipool
