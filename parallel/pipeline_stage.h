// What the slot executor runs. It is owned by this floor and implemented by models, so that the schedule
// knows layers and experts only by what they do. All tensors are [T, D] of one microbatch unless said
// otherwise. `microbatch` counts this rank's microbatches of the step from 0; `layer` counts the stage's
// layers from 0.
//
// Lifetimes. The last BackwardCombine and EndBackward of a time step come after BeginForward and ForwardRoute
// of layer 0 of the next. So stage s of S holds at most SlotSchedule::MaxInFlight(s) microbatches, 2 (S - s),
// from BeginForward to EndBackward, and one more for that moment. Around it boundaries travel:
//   ForwardInput    on stages > 0 that of m is written before the last BackwardCombine of m - 2 (S - s)
//   ForwardOutput   that of m is read (sent, or by the last stage's head) until the ForwardCombine of the
//                   last layer of m + 1 is called
//   BackwardInput   on the last stage Head(m) fills it, with one part before the last BackwardCombine of
//                   m - 1; elsewhere that of m is written after EndBackward(m - 1)
//   BackwardOutput  that of m is read until BeginBackward(m + 1) is called
#pragma once

#include "parallel/token_dispatcher.h"

namespace unipool {

class PipelineStage {
 public:
  virtual ~PipelineStage() = default;

  // Hidden states that enter the stage's layers: received on stages > 0, embedded in BeginForward on stage 0.
  virtual Tensor ForwardInput(int microbatch) = 0;
  // Hidden states that leave them, from the last layer's ForwardCombine on.
  virtual Tensor ForwardOutput(int microbatch) = 0;
  // Gradient of ForwardOutput: received, or on the last stage complete after the last part of Head.
  virtual Tensor BackwardInput(int microbatch) = 0;
  // Gradient of ForwardInput; valid after EndBackward.
  virtual Tensor BackwardOutput(int microbatch) = 0;

  // Before layer 0: embedding on stage 0.
  virtual void BeginForward(int microbatch) = 0;
  // Attention and router of the layer.
  virtual void ForwardRoute(int microbatch, int layer) = 0;
  // Are the rows that ForwardRoute sends counted on a device, so that the host waits in RoutedRows? Then the
  // executor enqueues other work in between.
  virtual bool counts_on_device() const { return false; }
  // What ForwardRoute routed, when its counts have reached the host; `label` says what is waited for. Called
  // once. The handle stays as it is until BackwardCombine of this microbatch and layer (ForwardCombine when
  // the schedule is forward only).
  virtual const DispatchHandle& RoutedRows(int microbatch, int layer, const ExchangeLabel& label) = 0;
  virtual void FillSendRows(Lane lane, int microbatch, int layer, const Tensor& send_rows /*[N, D]*/) = 0;
  // [N, D] where the experts' answers go: outputs in the forward lane, input gradients in the backward lane.
  virtual Tensor ReturnedRows(Lane lane, int microbatch, int layer) = 0;
  // Weighted sum of the returned rows plus residual.
  virtual void ForwardCombine(int microbatch, int layer) = 0;
  // On the last stage, after the last layer's ForwardCombine: part `part` of final norm, head, loss and
  // gradients, of num_parts in order. Results do not depend on num_parts. No other microbatch's parts come
  // between.
  virtual void Head(int microbatch, int part, int num_parts) = 0;
  // At the end of the forward's time step, on every stage.
  virtual void EndForward(int microbatch) = 0;

  // Just before the first BackwardRoute: BackwardInput is there.
  virtual void BeginBackward(int microbatch) = 0;
  // Upper half of the layer: gradient of the weighted sum; the rows to send are then written by FillSendRows.
  // Returns the handle of the forward.
  virtual const DispatchHandle& BackwardRoute(int microbatch, int layer) = 0;
  // Lower half: router, attention.
  virtual void BackwardCombine(int microbatch, int layer) = 0;
  // After layer 0: embedding gradient on stage 0.
  virtual void EndBackward(int microbatch) = 0;
};

// Weight gradients wait for nobody, so they are computed in two parts where they cover wires best.
enum class WeightPart { kFirst, kSecond };

// The experts that this rank owns. Every function works on one slot's rows of all sources; there may be none.
class ExpertHost {
 public:
  virtual ~ExpertHost() = default;
  // y [R, D] of x; fills `keep` [R, kept_columns] with what the backward wants back (empty when nothing is
  // kept).
  virtual void Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) = 0;
  // dx [R, D].
  virtual void BackwardInput(const OwnerBatch& batch, const Tensor& dx) = 0;
  // After BackwardInput of the same batch, kFirst, then kSecond; no other batch comes between. When kSecond
  // runs, batch.x and batch.kept may already be gone.
  virtual void BackwardWeights(const OwnerBatch& batch, WeightPart part) = 0;
  // The last BackwardWeights of the step has run: what was left for later is computed now.
  virtual void FinishWeights() {}
};

}  // namespace unipool
