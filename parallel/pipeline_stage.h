// What the slot executor runs: the layers of one pipeline stage (PipelineStage) and the experts of one rank
// (ExpertHost). This floor owns the two interfaces and `models` implements them, so the schedule knows layers
// and experts only by what they do.
//
// `microbatch` counts this rank's microbatches of the step from 0. `layer` counts the stage's layers from 0.
// All tensors are [T, D] of one microbatch unless their line says otherwise.
// Letters: README.md. The steps' names: parallel/DISPATCH.md, "Verbs".
//
// One layer of one microbatch is called in this order. Each backward function is the backward of the forward
// function that has its name:
//
//   forward    ForwardRoute, Plan, ForwardPermute    (rows to the experts and back)   ForwardUnpermute
//   backward   BackwardUnpermute    (rows to the experts and back)   BackwardPermute, BackwardRoute
//
// Lifetimes. A microbatch is in flight from its BeginForward to its EndBackward. Stage s of S holds at most
// SlotSchedule::MaxInFlight(s) = min(B, 2 (S - s)) microbatches. At the boundary of two time steps it holds
// one more: the next microbatch's layer 0 is routed before the last one's layer 0 ends.
//   Example, stage 0 of 2, B = 5: it holds 4. At the boundary to time step 4 BeginForward(4) and
//   ForwardRoute(4, 0) come first. BackwardPermute(0, 0), BackwardRoute(0, 0) and EndBackward(0) come after
//   them.
//
// The tensors of the four functions below live this long:
//
//   ForwardInput(m)     written before BackwardRoute of layer 0 of microbatch m - 2 (S - s), on stages > 0
//   ForwardOutput(m)    read (sent on, or by the last stage's head) until ForwardUnpermute of the last layer
//                       of microbatch m + 1 is called
//   BackwardInput(m)    last stage: Head(m) begins to fill it before BackwardRoute of layer 0 of m - 1;
//                       EndHead(m) fills it after EndBackward(m - 1)
//                       other stages: written after EndBackward(m - 1)
//   BackwardOutput(m)   read until BackwardUnpermute of the last layer of microbatch m + 1 is called
#pragma once

#include "parallel/token_dispatcher.h"
#include "runtime/device_context.h"

namespace unipool {

// A stage's part of a head that all stages of a pipeline run (SlotSchedule::SpreadHead). `share_of` is a
// stage, whose share of the microbatch's tokens is meant: EvenPartition(T, S, share_of). The last stage has
// the rows of all shares, in one array, and other stages those of their own.
//
// Of one microbatch: BeginHead on the last stage; HeadRows travel; RunHead and RunHeadRest on every stage,
// while HeadGradients of other stages travel back; EndHead on the last stage. The next microbatch's BeginHead
// comes after that. Where the schedule is forward only there are no gradients, and RunHeadRest and EndHead
// are left out.
class SpreadHead {
 public:
  virtual ~SpreadHead() = default;
  // [T / S, D] inputs of the logits, and their gradients. Each valid until the next microbatch's BeginHead.
  virtual Tensor HeadRows(int microbatch, int share_of) = 0;
  virtual Tensor HeadGradients(int microbatch, int share_of) = 0;
  // Last stage: fills HeadRows of all shares from ForwardOutput.
  virtual void BeginHead(int microbatch) = 0;
  // Logits and losses of this stage's share, and HeadGradients of it.
  virtual void RunHead(int microbatch) = 0;
  // What is left of the weight's gradient, which no other stage waits for. A share of `HeadRest` of the work.
  virtual void RunHeadRest(int microbatch) = 0;
  virtual double HeadRest(int microbatch) const = 0;
  // Last stage: HeadGradients of all shares have come. Fills BackwardInput.
  virtual void EndHead(int microbatch) = 0;
};

class PipelineStage {
 public:
  virtual ~PipelineStage() = default;

  // Null: the stage runs its head alone.
  virtual SpreadHead* spread_head() { return nullptr; }

  // Hidden states that enter the stage's first layer. Stage 0 embeds them in BeginForward, others receive
  // them.
  virtual Tensor ForwardInput(int microbatch) = 0;
  // Hidden states that leave the stage's last layer. Filled by its ForwardUnpermute.
  virtual Tensor ForwardOutput(int microbatch) = 0;
  // Gradient of ForwardOutput. The last stage has it after the last part of Head, others receive it.
  virtual Tensor BackwardInput(int microbatch) = 0;
  // Gradient of ForwardInput. Valid after EndBackward.
  virtual Tensor BackwardOutput(int microbatch) = 0;

  // Before layer 0: the embedding, on stage 0.
  virtual void BeginForward(int microbatch) = 0;
  // Attention and router of the layer.
  virtual void ForwardRoute(int microbatch, int layer) = 0;
  // Are the counts that ForwardRoute made on a device, so that the host waits in Plan? Then the executor
  // enqueues other work between ForwardRoute and Plan.
  virtual bool counts_on_device() const { return false; }
  // Waits until the counts of ForwardRoute have reached the host and makes the handle of what was routed.
  // Called once. `label` says in a report what is waited for.
  virtual void Plan(int microbatch, int layer, const ExchangeLabel& label) = 0;
  // The handle that Plan made. It stays as it is until BackwardRoute of this microbatch and layer (until
  // ForwardUnpermute when the schedule is forward only).
  virtual const DispatchHandle& Handle(int microbatch, int layer) = 0;
  // Writes the rows to send: the hidden state of each row's token. `queue`: of the device, whose work it is.
  virtual void ForwardPermute(int microbatch, int layer, const Tensor& send_rows /*[N, D]*/,
                              DeviceQueue queue) = 0;
  // [N, D] where the experts' answers go: outputs in the forward lane, input gradients in the backward lane.
  virtual Tensor ReturnedRows(Lane lane, int microbatch, int layer) = 0;
  // Weighted sum of each token's returned rows, and the residual: the layer's output.
  virtual void ForwardUnpermute(int microbatch, int layer) = 0;
  // On the last stage, after the last layer's ForwardUnpermute: part `part` of num_parts, in order, of the
  // final norm, head, loss and their gradients. Results do not depend on num_parts. No other microbatch's
  // parts come between.
  virtual void Head(int microbatch, int part, int num_parts) = 0;
  // At the end of the forward's time step, on every stage.
  virtual void EndForward(int microbatch) = 0;

  // Backward of the weighted sum: the gradient of each weight is kept, and the gradient of each row is
  // written as the row to send. BackwardInput is filled.
  virtual void BackwardUnpermute(int microbatch, int layer, const Tensor& send_rows /*[N, D]*/) = 0;
  // Sums each token's returned rows: the gradient of the hidden state that its rows were copies of.
  virtual void BackwardPermute(int microbatch, int layer) = 0;
  // Backward of the router and of attention: the gradient of the layer's input.
  virtual void BackwardRoute(int microbatch, int layer) = 0;
  // After layer 0: the embedding's gradient, on stage 0.
  virtual void EndBackward(int microbatch) = 0;
};

// Weight gradients wait for nobody, so they are computed in two parts where they cover wires best.
enum class WeightPart { kFirst, kSecond };

// The experts that this rank owns. Forward and BackwardInput work on one piece of a slot's rows of all
// sources, those of batch.experts, and leave the others alone. Pieces come in order and together are the
// batch, most often in one. There may be no rows.
class ExpertHost {
 public:
  virtual ~ExpertHost() = default;
  // The piece's rows of y [R, D], of batch.x. Also fills `keep` [R, kept_columns] with what the backward
  // wants back (empty when nothing is kept).
  virtual void Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) = 0;
  // The piece's rows of dx [R, D], the gradient of batch.x.
  virtual void BackwardInput(const OwnerBatch& batch, const Tensor& dx) = 0;
  // Of the whole batch. After BackwardInput of all its pieces: kFirst, then kSecond. No other batch comes
  // between. When kSecond runs, batch.x and batch.kept may already be gone.
  virtual void BackwardWeights(const OwnerBatch& batch, WeightPart part) = 0;
  // The last BackwardWeights of the step has run. What was left for later is computed now, and what other
  // ranks' experts get of the gradients begins to travel.
  virtual void FinishWeights(int64_t /*step*/) {}
};

}  // namespace unipool
