// One pipeline stage of the decoder: embedding (first stage), its layers, final norm, head and loss (last
// stage; a spread head on all stages). It implements what the slot executor runs (parallel/pipeline_stage.h).
// The experts are in ExpertPool.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "models/attention_layer.h"
#include "models/decode_state.h"
#include "models/forward_probe.h"
#include "models/moe_layer.h"
#include "models/output_head.h"
#include "models/rope_tables.h"
#include "models/saved_layers.h"
#include "models/send_order.h"
#include "models/token_inputs.h"
#include "parallel/pipeline_stage.h"
#include "runtime/range.h"

namespace unipool {

struct LanguageModelOptions {
  ComputeTypes types;
  int64_t micro_batch = 1;    // sequences
  int64_t max_in_flight = 2;  // microbatches between the start of their forward and the end of their backward
  // Activations of (microbatch, layer) for which memory is taken at once: as many as the schedule ever holds.
  int64_t saved_layers = 0;
  Range layers;  // of this stage
  bool is_first = true, is_last = true;
  // Of a spread head: the stages that share it, and this one. 1: the head is the last stage's.
  int head_shares = 1, head_share = 0;
  int64_t head_tokens = 1;   // whose logits may exist at once
  bool is_trainable = true;  // false: no memory for gradients
  // Of a layer's attention only the input is kept for the backward, which computes the rest again.
  bool recompute_attention = false;
  DeviceContext* device = nullptr;  // of the stream; null: the CPU
  // Ranks of the pool group that have this stage's layers, ascending, and this rank. For shadows alone.
  std::vector<int> sources;
  int rank = 0;
};

class LanguageModel : public PipelineStage, public SpreadHead {
 public:
  // All references must outlive it. `memory` counts the memory of the stream's device.
  LanguageModel(const ModelSpec& spec, const LanguageModelOptions& options, const ExpertPlacement& placement,
                ExpertUse& use, Stream& stream, MemoryMeter& memory);

  // Samples of the microbatches to run, [B, b, s + 1] I32: inputs are tokens 0..s-1, targets 1..s. Token ids
  // are below the vocabulary. The gradient is that of loss_scale * sum of token losses; with loss_scale 0
  // only losses are computed, and sequences may then be shorter, as many as b s <= T allows. Only the first
  // num_counted sequences enter loss_sum (a last batch may be padded). The samples are read before it
  // returns.
  void SetSamples(const Tensor& samples, double loss_scale, int64_t num_counted);
  // [1] F64, on the stream's device: over the tokens of the run since SetSamples. Of a spread head those of
  // this stage's share, otherwise 0 but on the last stage.
  Tensor loss_sum() const { return head_.loss_sum(); }

  // Generation, one token at a time on one rank that owns every expert: logits [1, V] for the token after
  // `token`, which stands at `position` < s (counted from 0). The keys and values of earlier positions are
  // remembered. In host memory until the next call; from a device in AccumulatorOf(the model's type).
  Tensor NextLogits(int32_t token, int64_t position, ExpertHost& experts);

  // Who looks at each forward microbatch of a layer from now on; it outlives its use. Null: nobody.
  void SetProbe(ForwardProbe* probe) { run_.probe = probe; }
  // The same for the tokens that the head predicts, see OutputHead::SetScorer.
  void SetScorer(TokenScorer* scorer) { head_.SetScorer(scorer); }
  bool has_scorer() const { return head_.has_scorer(); }

  DenseParameters& parameters() { return parameters_; }
  // The weight of a spread head, the same on all stages; empty where the head is not spread.
  DenseParameters& head_parameters() { return head_.spread_parameters(); }
  const ModelSpec& spec() const { return spec_; }

  Tensor ForwardInput(int microbatch) override;
  Tensor ForwardOutput(int microbatch) override;
  Tensor BackwardInput(int microbatch) override;
  Tensor BackwardOutput(int microbatch) override;
  void BeginForward(int microbatch) override;
  void ForwardRoute(int microbatch, int layer) override;
  bool counts_on_device() const override { return options_.device != nullptr; }
  void Plan(int microbatch, int layer, const ExchangeLabel& label) override;
  const DispatchHandle& Handle(int microbatch, int layer) override;
  void ForwardPermute(int microbatch, int layer, const Tensor& send_rows, DeviceQueue queue) override;
  Tensor ReturnedRows(Lane lane, int microbatch, int layer) override;
  void ForwardUnpermute(int microbatch, int layer) override;
  void Head(int microbatch, int part, int num_parts) override;
  void EndForward(int microbatch) override;
  void BackwardUnpermute(int microbatch, int layer, const Tensor& send_rows) override;
  void BackwardPermute(int microbatch, int layer) override;
  void BackwardRoute(int microbatch, int layer) override;
  void EndBackward(int microbatch) override;

  SpreadHead* spread_head() override { return options_.head_shares > 1 ? this : nullptr; }
  Tensor HeadRows(int, int share_of) override { return head_.ShareRows(share_of); }
  Tensor HeadGradients(int, int share_of) override { return head_.ShareGradients(share_of); }
  void BeginHead(int microbatch) override { head_.Normalize(ForwardOutput(microbatch)); }
  void RunHead(int microbatch) override { head_.RunShare(microbatch, inputs_.targets(microbatch)); }
  void RunHeadRest(int) override { head_.AddRest(); }
  double HeadRest(int) const override { return head_.Rest(); }
  void EndHead(int microbatch) override {
    head_.EndNorm(ForwardOutput(microbatch), BackwardInput(microbatch));
  }

 private:
  struct Layer {
    AttentionLayer attention;
    MoeLayer moe;
  };
  // Memory of one rank that all its layers use in turn.
  struct Shared {
    Buffer output;                // [T, D] of the running forward microbatch
    std::array<Buffer, 2> grads;  // [T, D] of the backward microbatch and the one after it
    Buffer attention;             // scratch of AttentionLayer::Backward
    MoeLayer::Scratch moe;
  };
  std::vector<std::unique_ptr<Layer>> DeclareLayers(ExpertUse& use);
  Shared ReserveShared() const;
  void BeginRun();
  Tensor Hidden(Buffer& buffer) const;
  int LayerOfModel(int layer) const { return static_cast<int>(options_.layers.begin) + layer; }
  // Tokens of the microbatch that are not padding.
  int64_t CountedTokens(int microbatch) const;
  AttentionShape shape() const { return spec_.attention(options_.micro_batch); }  // of full sequences
  Tensor Decode(int32_t token, int64_t position, ExpertHost& experts);  // logits on the stream's device

  // Parameters lie in the order in which their users are declared: embedding, layers, head.
  const ModelSpec& spec_;
  const LanguageModelOptions options_;
  const ExpertPlacement& placement_;
  ExpertUse& use_;
  Stream& stream_;
  std::optional<Stream> communication_;  // of the device's other queue
  MemoryMeter& memory_;
  DenseParameters parameters_;
  TokenInputs inputs_;
  std::vector<std::unique_ptr<Layer>> layers_;
  OutputHead head_;
  RopeTables rope_;
  SendOrder send_order_;
  SavedLayers saved_;
  Shared shared_;
  std::unique_ptr<DecodeState> decode_;  // made by the first NextLogits
  struct {
    bool is_training = false;
    int64_t num_counted = 0;  // tokens that are not padding
    AttentionShape shape;
    ForwardProbe* probe = nullptr;
  } run_;  // the run since SetSamples
};

}  // namespace unipool
