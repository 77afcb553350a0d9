// A layer's own router into the shared pool: logits, scores, the K chosen experts, and the way back. DESIGN
// section 7. Without a router (dense models) every token goes to the layer's one expert with weight 1.
#pragma once

#include "models/dense_parameters.h"
#include "models/load_balance.h"
#include "models/model_spec.h"

namespace unipool {

class Router {
 public:
  // What one microbatch leaves for the backward. T tokens, M experts, K chosen.
  struct Saved {
    Tensor logits, scores;  // [T, M]
    Tensor experts;         // [T, K] I32
    Tensor weights;         // [T, K] scores of the chosen
    Tensor score_sum;       // [M] F64
    Tensor counts;          // [M] I64 choices, the ones with score 0 included
  };

  // `layer` counts over the whole model. `balance` gives the choice its bias and the backward its auxiliary
  // gradient.
  Router(const ModelSpec& spec, int layer, DenseParameters& parameters, LoadBalance& balance, Stream& stream);

  // Chooses experts for x [T, D]; returns the number of tokens without a positive score.
  int64_t Forward(const Tensor& x, const Saved& saved);
  // dx [T, D] += gradient through the scores, from that of the chosen weights (dweights [T, K]) and the
  // balancing loss. scratch holds dlogits [T, M].
  void Backward(const Tensor& x, const Saved& saved, const Tensor& dweights, int64_t microbatch,
                const Tensor& dx, Buffer& scratch);

 private:
  int64_t ChooseOnlyExpert(const Saved& saved);
  const ModelSpec& spec_;
  int layer_;
  DenseParameters& parameters_;
  LoadBalance& balance_;
  Stream& stream_;
  RouterScoreSpec score_spec_;
  DenseParameters::Id weight_ = -1, scale_ = -1;
};

}  // namespace unipool
