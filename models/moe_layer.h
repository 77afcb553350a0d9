// The MoE layer: the lower half of a decoder layer, the same for every model of the family.
//
//   out = h + sum_k s_k * expert_k(RMSNorm(h))
//
// It is cut at its exchanges, so that the slot executor can put other work between them. Letters: README.md.
// What happens between ranks: parallel/DISPATCH.md.
//
// Follow one token t through it:
//   ForwardRoute       RMSNorm; the layer's router scores all experts and chooses K; each choice gets a row
//   Plan               (on the host) the rows of each expert give the send plan; loads are booked
//   ForwardPermute     t's hidden state is copied into its rows, which are ordered by owner and expert
//   ...                the dispatcher carries them to their experts' owners, which answer each row
//   ForwardUnpermute   out[t] = h[t] + sum_k s_k * returned row
// and back:
//   BackwardUnpermute  ds_k = <dout[t], y_k>; the rows to send become s_k * dout[t]
//   ...                owners return each row's input gradient
//   BackwardPermute    the gradients of t's rows are summed
//   BackwardRoute      the router's gradient is added; RMSNorm's backward; residual
#pragma once

#include "kernels/row_order.h"
#include "models/router.h"
#include "models/send_order.h"
#include "parallel/pipeline_stage.h"

namespace unipool {

class MoeLayer {
 public:
  // What the host must know of a routing, in the host's memory. On the CPU it is the router's own memory,
  // on a device a copy.
  struct Report {
    Router::Report router;
    Tensor rows_of_place;  // [P] I32 in send order
  };
  struct Saved {
    Tensor h;        // [T, D] input; written by the attention layer
    Tensor inv_rms;  // [T], of AccumulatorOf(the dtype), as all numbers of the router
    Tensor normed;   // [T, D]
    Router::Saved router;
    RowOrder order;
    Tensor rows_of_place;  // [P] I32 in send order; without shadows order.rows_of_expert
    Tensor y;              // [T * K, D] the experts' outputs, in send order; the first N rows are used
    Report report;
    DispatchHandle handle;
    Tensor rows_of_y() const { return y.Rows(0, handle.plan.num_rows); }
    Tensor tokens_of_rows() const { return order.token_of.Rows(0, handle.plan.num_rows); }
  };
  // Memory of the backward lane of one rank. All its layers share it: one layer of one microbatch uses it
  // at a time.
  struct Scratch {
    Buffer returned;  // [N, D] input gradients that came back
    Buffer dnormed;   // [T, D]
    Buffer dweights;  // [T, K]
    Router::Scratch router;
  };

  MoeLayer(const ModelSpec& spec, int layer, const ExpertPlacement& placement, DenseParameters& parameters,
           ExpertUse& use, Stream& stream, MemoryMeter& memory);

  void RefreshWeights() { router_.RefreshWeight(); }  // before ForwardRoute, once weights have changed
  void ForwardRoute(const Saved& saved, const SendOrder& send_order, int64_t microbatch);
  void Plan(Saved& saved);  // when the report has reached the host
  // What the layer chose. Valid until the next call.
  LayerChoices ChoicesOf(const Report& report);
  // In the queue of `stream`.
  void ForwardPermute(const Saved& saved, const Tensor& rows /*[N, D]*/, Stream& stream);
  void ForwardUnpermute(const Saved& saved, const Tensor& out /*[T, D]*/);

  // Writes the rows to send, [N, D], and keeps the gradient of the weights in `scratch`.
  void BackwardUnpermute(const Saved& saved, const Tensor& dout /*[T, D]*/, const Tensor& rows,
                         Scratch& scratch);
  // Keeps in `scratch` the gradient of `normed` that came through the experts.
  void BackwardPermute(const Saved& saved, const Tensor& returned /*[N, D]*/, Scratch& scratch);
  // dout becomes the gradient of h, in place.
  void BackwardRoute(const Saved& saved, int64_t microbatch, const Tensor& dout, Scratch& scratch);

 private:
  const ModelSpec& spec_;
  int layer_;
  const ExpertPlacement& placement_;
  DenseParameters& parameters_;
  ExpertUse& use_;
  Stream& stream_;
  DenseParameters::Id norm_;
  Router router_;
  std::vector<int64_t> positive_choices_;  // [M]
};

}  // namespace unipool
