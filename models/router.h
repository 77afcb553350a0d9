// A layer's own router into the shared pool: logits, scores, the K chosen experts, and the way back. DESIGN
// section 7. Scores and all that follows from them have AccumulatorOf(the type of x). Without a router (dense
// models) every token goes to the layer's one expert with weight 1.
#pragma once

#include "models/dense_parameters.h"
#include "models/expert_use.h"
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
    Tensor num_off;         // [1] I64 tokens whose chosen experts all have score 0
    Tensor sums;            // [*] I32, the memory of the three above, to be cleared at once
  };
  // Its last three, where the host reads them.
  struct Report {
    Tensor score_sum, counts, num_off;
  };
  // Memory of the backward, shared by all layers. Where the model computes in BF16, dlogits is also needed as
  // the sum of two such numbers, so that the gradient of the weight keeps the router's precision; dx is BF16
  // itself, and the first of the two is enough for it.
  struct Scratch {
    Buffer dlogits;    // [T, M]
    Buffer high, low;  // [T, M]
  };

  // `layer` counts over the whole model. `use` gives the choice its bias and the backward the gradient of the balancing
  // loss.
  // `memory` is that of the stream's device.
  Router(const ModelSpec& spec, int layer, DenseParameters& parameters, ExpertUse& use, Stream& stream,
         MemoryMeter& memory);

  // Once the weight has changed, before Forward. Where the model computes in BF16 it finds what the weight's
  // copy lacks (and writes the copy again, the same), so that logits are those of the F32 weight.
  void RefreshWeight();
  // Chooses experts for x [T, D].
  void Forward(const Tensor& x, const Saved& saved);
  // dx [T, D] += gradient through the scores, from that of the chosen weights (dweights [T, K]) and the
  // balancing loss.
  void Backward(const Tensor& x, const Saved& saved, const Report& report, const Tensor& dweights,
                int64_t microbatch, const Tensor& dx, Scratch& scratch);

 private:
  void ChooseOnlyExpert(const Saved& saved);
  Tensor weight_low() const;
  Tensor sigma() const { return scale_ >= 0 ? parameters_.master(scale_) : Tensor{}; }
  const ModelSpec& spec_;
  int layer_;
  DenseParameters& parameters_;
  ExpertUse& use_;
  Stream& stream_;
  RouterScoreSpec score_spec_;
  MemoryMeter& memory_;
  DenseParameters::Id weight_ = -1, scale_ = -1;
  Buffer weight_low_;  // [M, D] BF16, what the copy of the weight lacks; none in other types
};

}  // namespace unipool
