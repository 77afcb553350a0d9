// What the slot executor runs. It is owned by this floor and implemented by models, so that the schedule
// knows layers and experts only by what they do. All tensors are [T, D] of one microbatch unless said
// otherwise. `microbatch` counts this rank's microbatches of the step from 0; `layer` counts the stage's
// layers from 0.
//
// Lifetimes. A stage s of S holds up to SlotSchedule::MaxInFlight(s) = 2 (S - s) microbatches, from
// BeginForward to EndBackward. Boundaries overlap with compute, so that around them a little more is alive:
//   ForwardInput(m)    on stages > 0 asked for, and written, from the EndForward of m - 1 on, that is before
//   the last
//                      BackwardCombine of m - 2 (S - s): these are one more than the microbatches in flight
//   BackwardInput(m)   on the last stage filled by EndForward(m), before the last BackwardCombine of m - 1;
//   elsewhere
//                      received after EndBackward(m - 1)
//   BackwardOutput(m)  read until the next time step's BackwardRoute, while ForwardRoute of the next
//   microbatch runs
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
      int microbatch) = 0;  // valid after EndForward of this microbatch until its backward
  // Gradient of ForwardOutput: written by the executor (receive) when not the last stage, by EndForward
  // (loss) on it.
  virtual Tensor BackwardInput(int microbatch) = 0;
  virtual Tensor BackwardOutput(int microbatch) = 0;  // gradient of ForwardInput; valid after EndBackward

  virtual void BeginForward(int microbatch) = 0;  // before layer 0: embedding on stage 0
  // Attention and router of the layer: fills the handle and starts nothing itself. The handle stays as it is
  // until BackwardCombine of this microbatch and layer (ForwardCombine when the schedule is forward only).
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
  // Returns the handle of the forward.
  virtual const DispatchHandle& BackwardRoute(int microbatch, int layer) = 0;
  virtual void BackwardCombine(int microbatch, int layer) = 0;  // lower half: router, attention
  virtual void EndBackward(int microbatch) = 0;  // after layer 0: embedding gradient on stage 0
};

// The experts that this rank owns. Every function works on one slot's rows of all sources; there may be none.
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
