// The K experts of each token: largest score + bias among visible experts, ties to the lower index, in
// falling order. On the CPU alone, in F32 or F64: on CUDA, RouterForward (router_forward.h) contains it.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// weights[t, k] is the score itself, without the bias. counts[i] += rows that chose i, rows with score 0
// included (I64). Returns the number of tokens whose chosen experts all have score 0 (their FFN is off);
// without a bias these are the tokens without a positive score. REQUIRES: K <= visible experts; K scores of
// each token are numbers, not NaN. bias [M] of scores' dtype, or empty; visible [M] of scores' dtype. Moves
// T M scores, T K experts and weights each, bias and visible once and counts twice.
int64_t TopK(Stream& stream, const Tensor& scores /*[T, M]*/, const Tensor& bias, const Tensor& visible,
             const Tensor& experts /*[T, K] I32*/, const Tensor& weights /*[T, K]*/,
             const Tensor& counts /*[M] I64*/);

}  // namespace unipool
