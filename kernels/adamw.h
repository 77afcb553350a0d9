// AdamW (arXiv 1711.05101), decoupled weight decay, fp32 moments:
//   g = grad * grad_scale;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr * ( (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps) + weight_decay * p )
// Types: on the CPU all F32 or all F64. On CUDA param, m and v are F32, and grad is F32 or BF16.
#pragma once

#include <span>

#include "runtime/stream.h"

namespace unipool {

struct AdamWArgs {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double grad_scale = 1;  // the clipping factor
  int64_t step = 1;       // t, from 1
  // Clipping by a norm that the host has not seen, with max_grad_norm > 0. grad_squares [1] F64 is on the
  // stream's device. It is the sum of squares of all gradients before grad_scale (AddSumOfSquares, reduce.h).
  // With norm = |grad_scale| * sqrt(grad_squares), g is also multiplied by max_grad_norm / norm where norm is
  // larger than max_grad_norm.
  double max_grad_norm = 0;
  Tensor grad_squares;
  // [n] F64 on the stream's device, or empty. Unless all of them are finite, nothing is written.
  Tensor finite;
};
// One pass over n elements, which reads 4 arrays and writes 3 (28 bytes an element in F32). All are [n]. An
// empty grad means gradient 0, with which the moments still decay.
void AdamW(Stream& stream, const AdamWArgs& args, const Tensor& param, const Tensor& grad, const Tensor& m,
           const Tensor& v);

struct AdamWTensors {
  Tensor param, grad, m, v;  // as AdamW takes them
  // If not empty, it receives the new param in the type that the model computes with: F32, BF16, or F64 where
  // param is F64. That moves 2 or 4 bytes an element more. CUDA writes it in the same pass, and so does the
  // CPU in BF16; other types it writes by Copy.
  Tensor copy;
};
// AdamW of each of the group. On CUDA a launch takes up to 64 tensors of any sizes.
void AdamWGroup(Stream& stream, const AdamWArgs& args, std::span<const AdamWTensors> group);

}  // namespace unipool
