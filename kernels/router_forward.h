// A layer's router in one pass: logits z = W x, their scores (kernels/router_scores.h), the K chosen experts
// (kernels/top_k.h) and the counts. On the CPU it is defined as those units one after the other. On CUDA one
// kernel reads every token once for each tile of 128 experts, or of 64 where tokens are few or experts many.
#pragma once

#include "kernels/router_scores.h"
#include "kernels/top_k.h"

namespace unipool {

// x and weight have one dtype: F32 or F64 on the CPU, F32 or BF16 on CUDA. Products are summed in
// AccumulatorOf(dtype). All other tensors that name no type have that type.
struct RouterInputs {
  Tensor x;       // [T, D]
  Tensor weight;  // [M, D]
  // [M, D], added to weight, or empty. A BF16 weight stands for an F32 weight; this is the part that BF16 cut
  // off (kernels/split_bf16.h). Logits then see 16 bits of the weight.
  Tensor weight_low;
  Tensor sigma;  // [1], or empty unless HasSigma
  Tensor bias;   // [M] added for the choice only, or empty
  BiasReach bias_reach = BiasReach::kEveryScore;
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

// REQUIRES: as RouterScoresForward and TopK, and M <= kMostCudaExperts on CUDA. Moves T D elements (x), 2 T M
// accumulators (logits, scores) and 2 T K numbers. W comes from the cache. The bits depend on the inputs
// alone, not on how a device schedules.
void RouterForward(Stream& stream, const RouterScoreSpec& spec, const RouterInputs& in,
                   const RouterOutputs& out);
// dtype of x.
int64_t RouterForwardScratchBytes(Device device, DType dtype, int64_t num_tokens /*T*/,
                                  int64_t num_experts /*M*/);

}  // namespace unipool
