// AdamW (arXiv 1711.05101), decoupled weight decay, fp32 moments:
//   g = grad * grad_scale;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
//   p -= lr * ( (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps) + weight_decay * p )
#pragma once

#include "runtime/stream.h"

namespace unipool {

struct AdamWArgs {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double grad_scale = 1;  // the clipping factor
  int64_t step = 1;       // t, from 1
};
// One pass over n elements: reads 4, writes 3 arrays (28 bytes an element). All [n] of one dtype. An empty
// grad means zero gradient (the moments still decay).
void AdamW(Stream& stream, const AdamWArgs& args, const Tensor& param, const Tensor& grad, const Tensor& m,
           const Tensor& v);

}  // namespace unipool
