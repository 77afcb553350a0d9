// A layer's router in one pass: logits z = W x, their scores (kernels/router_scores.h), the K chosen experts
// (kernels/top_k.h) and the counts. On the CPU it is defined by those units one after the other; on CUDA one
// kernel reads every token once.
#pragma once

#include "kernels/router_scores.h"

namespace unipool {

// x and weight have one dtype: F32 and F64 on the CPU, F32 and BF16 on CUDA. Products are summed in
// AccumulatorOf(dtype), which all other tensors have that name no type.
struct RouterInputs {
  Tensor x;       // [T, D]
  Tensor weight;  // [M, D]
  // [M, D], added to weight, or empty: what a BF16 weight lacks of the F32 one that it stands for
  // (kernels/split_bf16.h). Logits then have 16 bits of the weight, as exact as the sums.
  Tensor weight_low;
  Tensor sigma;    // [1], or empty unless NORM
  Tensor bias;     // [M] added for the choice only, or empty
  Tensor visible;  // [M]
};
struct RouterOutputs {
  Tensor logits;     // [T, M]
  Tensor scores;     // [T, M]
  Tensor score_sum;  // [M] F64 +=
  Tensor experts;    // [T, K] I32
  Tensor weights;    // [T, K]
  Tensor counts;     // [M] I64 +=
  Tensor num_off;    // [1] I64 += tokens whose chosen experts all have score 0
};

// REQUIRES: as RouterScoresForward and TopK; on CUDA also M <= 768. A token without K scores that are numbers
// ends the job. Moves T D elements (x), 2 T M accumulators (logits, scores) and 2 T K numbers; W comes from
// the cache. The bits depend on the inputs alone, not on how a device schedules.
void RouterForward(Stream& stream, const RouterScoreSpec& spec, const RouterInputs& in,
                   const RouterOutputs& out);

}  // namespace unipool
