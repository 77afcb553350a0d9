// Softmax cross-entropy over the vocabulary. It works in place, so a second [n, V] never exists.
// Types: logits are F32 or F64 on the CPU, and F32 or BF16 on CUDA, where exponentials and their sum are F32.
// Losses are F64 on both.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// losses[t] = logsumexp(logits[t]) - logits[t, target]. With grad_scale != 0 the logits become
// grad_scale * (softmax - onehot), which is the gradient of grad_scale * (sum of losses). With grad_scale 0
// they are left as they are. A target outside [0, V) is a bug and ends the job. Moves n V elements without a
// gradient and 2 n V with it, the targets and the losses.
void CrossEntropy(Stream& stream, const Tensor& logits /*[n, V]*/, const Tensor& targets /*[n] I32*/,
                  double grad_scale, const Tensor& losses /*[n] F64*/);

}  // namespace unipool
