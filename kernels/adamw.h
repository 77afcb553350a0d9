// AdamW (arXiv 1711.05101), decoupled weight decay, fp32 moments:
//   g = grad * grad_scale;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr * ( (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps) + weight_decay * p )
// Types: on the CPU all F32 or all F64. On CUDA param, m and v are F32, grad F32 or BF16.
#pragma once

#include <span>

#include "runtime/stream.h"

namespace unipool {

struct AdamWArgs {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double grad_scale = 1;  // the clipping factor
  int64_t step = 1;       // t, from 1
  // Clipping by a norm that the host has not seen: with max_grad_norm > 0 grad_squares is [1] F64 on the
  // stream's device, the sum of squares of all gradients before grad_scale (reduce.h, AddSumOfSquares), and g
  // is also multiplied by max_grad_norm / norm, if norm = |grad_scale| * sqrt(grad_squares) is larger.
  double max_grad_norm = 0;
  Tensor grad_squares;
};
// One pass over n elements: reads 4, writes 3 arrays (28 bytes an element). All [n]. An empty grad means zero
// gradient (the moments still decay).
void AdamW(Stream& stream, const AdamWArgs& args, const Tensor& param, const Tensor& grad, const Tensor& m,
           const Tensor& v);

struct AdamWTensors {
  Tensor param, grad, m, v;  // as AdamW takes them
  // If not empty: the new param again, in the type that the model computes with (F32 or BF16; F64 like an F64
  // param), 2 or 4 bytes an element more: on CUDA written in the same pass, on the CPU by Copy.
  Tensor copy;
};
// AdamW of each. On CUDA a launch takes up to 64 tensors of any sizes.
void AdamWGroup(Stream& stream, const AdamWArgs& args, std::span<const AdamWTensors> group);

}  // namespace unipool
