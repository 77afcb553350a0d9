// A layer's own router into the shared pool: logits, scores, the K chosen experts, and the way back
// (models/POOL_LOSS.md, "The router"). Logits and all that follows from them have AccumulatorOf(the type of
// x). In dense models there is no router, and every token goes to the layer's one expert with weight 1.
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
    Tensor weights;         // [T, K] scores of the chosen experts
    Tensor score_sum;       // [M] F64
    Tensor counts;          // [M] I64 choices, the ones with score 0 included
    Tensor num_off;         // [1] I64 tokens whose chosen experts all have score 0
    Tensor sums;            // [*] I32, the memory of score_sum, counts and num_off, to be cleared at once
  };
  // score_sum, counts and num_off of Saved, where the host reads them.
  struct Report {
    Tensor score_sum, counts, num_off;
  };
  // What the backward needs of it.
  struct Booked {
    LayerChoices choices;
    Tensor score_sum;
  };
  // Memory of the backward, shared by all layers. A BF16 model multiplies in BF16, and dlogits is F32. So
  // dlogits is split into two BF16 numbers, high + low. The weight's gradient adds the products of both, and
  // keeps the router's precision. dx is BF16 itself, and the product of `high` is enough for it.
  struct Scratch {
    Buffer dlogits;    // [T, M]
    Buffer high, low;  // [T, M] BF16; not used in other types
  };

  // `layer` counts over the whole model. `use` gives the choice its bias and the backward the gradient of the
  // balancing loss. `memory` counts the memory of the stream's device.
  Router(const ModelSpec& spec, int layer, DenseParameters& parameters, ExpertUse& use, Stream& stream,
         MemoryMeter& memory);

  // No sigma is smaller. It is 0 for all that follows, and yet orders the experts, so that their scores have
  // gradients: a sigma below 0 would choose the experts whose score is 0, and never come back.
  static constexpr double kLeastScale = 1e-25;

  // To be called when the weight has changed, before Forward. A BF16 model splits the F32 master into two
  // BF16 numbers: high is the compute copy (it is written again, with the same bits), low is what rounding
  // took from it. Forward multiplies by both, so logits are as exact as with the master.
  void RefreshWeight();
  // Chooses experts for x [T, D].
  void Forward(const Tensor& x, const Saved& saved);
  // Adds the gradient that comes through the scores to dx [T, D], and to the gradients of weight and sigma.
  // dweights [T, K] is the gradient of `weights`; the balancing loss adds its own gradient.
  void Backward(const Tensor& x, const Saved& saved, const Booked& booked, const Tensor& dweights,
                int64_t microbatch, const Tensor& dx, Scratch& scratch);

 private:
  void ChooseOnlyExpert(const Saved& saved);
  RouterScoreSpec score_spec() const;
  Tensor weight_low() const;
  Tensor sigma() const { return scale_ >= 0 ? parameters_.master(scale_) : Tensor{}; }
  const ModelSpec& spec_;
  int layer_;
  DenseParameters& parameters_;
  ExpertUse& use_;
  Stream& stream_;
  MemoryMeter& memory_;
  DenseParameters::Id weight_ = -1, scale_ = -1;
  Buffer weight_low_;  // [M, D] BF16, see RefreshWeight; none in other types
};

}  // namespace unipool
