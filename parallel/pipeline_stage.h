// What the slot executor runs. It is owned by this floor and implemented by models, so that the schedule
// knows layers and experts only by what they do. All tensors are [T, D] of one microbatch unless said
// otherwise. `microbatch` counts this rank's microbatches of the step from 0; `layer` counts the stage's
// layers from 0.
#pragma once

#include "parallel/token_dispatcher.h"

namespace unipool {

class PipelineStage {
 public:
  virtual ~PipelineStage() = default;

  // Hidden states that enter / leave the stage's layers. Stage 0 fills its own input (embedding) in
  // BeginForward.
  virtual Tensor ForwardInput(int microbatch) = 0;  // written by the executor (receive) when stage > 0
  virtual Tensor ForwardOutput(
      int microbatch) = 0;  // valid after EndForward of this microbatch, until its backward
  virtual Tensor BackwardInput(
      int microbatch) = 0;  // gradient of ForwardOutput; written by the executor (receive) when
                            // not the last stage, by EndForward (loss) on the last
  virtual Tensor BackwardOutput(int microbatch) = 0;  // gradient of ForwardInput; valid after EndBackward

  virtual void BeginForward(int microbatch) = 0;  // before layer 0: embedding on stage 0
  // Attention and router of the layer: fills the handle and the send rows, and starts nothing itself.
  virtual const DispatchHandle& ForwardRoute(int microbatch, int layer) = 0;
  virtual void FillSendRows(Lane lane, int microbatch, int layer, const Tensor& send_rows /*[N, D]*/) = 0;
  // Where the experts' answers for this layer go: outputs in the forward lane, input gradients in the
  // backward lane.
  virtual Tensor ReturnedRows(Lane lane, int microbatch, int layer) = 0;  // [N, D]
  virtual void ForwardCombine(int microbatch,
                              int layer) = 0;   // weighted sum of the returned rows plus residual
  virtual void EndForward(int microbatch) = 0;  // after the last layer: norm, head and loss on the last stage

  virtual void BeginBackward(int microbatch) = 0;
  // Upper half of the layer: gradient of the weighted sum; the rows to send are then written by FillSendRows.
  virtual const DispatchHandle& BackwardRoute(int microbatch, int layer) = 0;
  virtual void BackwardCombine(int microbatch, int layer) = 0;  // lower half: router, attention
  virtual void EndBackward(int microbatch) = 0;  // after layer 0: embedding gradient on stage 0
};

// The experts that this rank owns. Every function works on one slot's rows of all sources.
class ExpertHost {
 public:
  virtual ~ExpertHost() = default;
  // y [R, D] of x; fills `keep` [R, kept_columns] with what the backward wants back (empty when nothing is
  // kept).
  virtual void Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) = 0;
  virtual void BackwardInput(const OwnerBatch& batch, const Tensor& dx) = 0;  // dx [R, D]
  virtual void BackwardWeights(const OwnerBatch& batch) = 0;  // after BackwardInput of the same batch
};

}  // namespace unipool
