// One pipeline stage of the decoder: embedding (first stage), its layers, final norm, head and loss (last
// stage). It implements what the slot executor runs; the experts are in ExpertPool.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "models/attention_layer.h"
#include "models/moe_layer.h"
#include "parallel/pipeline_stage.h"
#include "runtime/device_context.h"
#include "runtime/range.h"

namespace unipool {

struct LanguageModelOptions {
  DType dtype = DType::kF32;
  int64_t micro_batch = 1;    // sequences
  int64_t max_in_flight = 2;  // microbatches between the start of their forward and the end of their backward
  // Activations of (microbatch, layer) for which memory is taken at once: as many as the schedule ever holds.
  int64_t saved_layers = 0;
  Range layers;  // of this stage
  bool is_first = true, is_last = true;
  bool is_trainable = true;  // false: no memory for gradients
  // Of a layer's attention only the input is kept for the backward, which computes the rest again.
  bool recompute_attention = false;
  DeviceContext* device = nullptr;  // of the stream; null: the CPU
};

class LanguageModel : public PipelineStage {
 public:
  LanguageModel(const ModelSpec& spec, const LanguageModelOptions& options, const ExpertPlacement& placement,
                ExpertUse& use, Stream& stream, MemoryMeter& memory);
  ~LanguageModel() override;

  // Samples of the microbatches to run, [B, b, s + 1] I32: inputs are tokens 0..s-1, targets 1..s. Read until
  // the run ends. Token ids are below the vocabulary. loss_scale: the gradient is that of loss_scale * sum of
  // token losses; 0 computes losses alone. Only the first num_counted sequences enter loss_sum (a last batch
  // may be padded). The samples are read before it returns.
  void SetSamples(const Tensor& samples, double loss_scale, int64_t num_counted);
  // [1] F64, on the stream's device: over the tokens of the run since SetSamples; 0 but on the last stage.
  Tensor loss_sum() const { return loss_sum_.View(DType::kF64, {1}); }

  // Generation, one token at a time on one rank that owns every expert: logits [1, V] for the token after
  // `token`, which stands at `position` < s (counted from 0). The keys and values of earlier positions are
  // remembered. In host memory until the next call; from a device in AccumulatorOf(the model's type).
  Tensor NextLogits(int32_t token, int64_t position, ExpertHost& experts);

  // Sizes for memory plans: what one layer keeps of a microbatch of T tokens, what attention computes of it
  // on the way (of that it keeps nothing, and all layers use the same memory, with recompute_attention), and
  // logits that the head holds at once, more of them on a GPU.
  static int64_t SavedBytes(const ModelSpec& spec, int64_t tokens, DType dtype, bool recompute_attention);
  static int64_t AttentionInternalBytes(const ModelSpec& spec, int64_t tokens, DType dtype);
  static int64_t LogitsAtOnce(const ModelSpec& spec, int64_t tokens, Device device);
  // Tokens of one chunk of the head, of T: the same in every layout, since it decides the order of sums.
  static int64_t HeadChunkTokens(int64_t padded_vocab, int64_t tokens, Device device);

  DenseParameters& parameters() { return parameters_; }
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
  void ForwardPermute(int microbatch, int layer, const Tensor& send_rows) override;
  Tensor ReturnedRows(Lane lane, int microbatch, int layer) override;
  void ForwardUnpermute(int microbatch, int layer) override;
  void Head(int microbatch, int part, int num_parts) override;
  void EndForward(int microbatch) override;
  void BackwardUnpermute(int microbatch, int layer, const Tensor& send_rows) override;
  void BackwardPermute(int microbatch, int layer) override;
  void BackwardRoute(int microbatch, int layer) override;
  void EndBackward(int microbatch) override;

 private:
  struct Layer {
    AttentionLayer attention;
    MoeLayer moe;
  };
  struct LayerSaved;  // what one (microbatch, layer) keeps until its backward
  struct DecodeState;

  Tensor Decode(int32_t token, int64_t position, ExpertHost& experts);  // logits on the stream's device
  LayerSaved& SavedOf(int microbatch, int layer);  // taken from the free list at first use
  void AddSaved(int64_t count);
  void Release(int microbatch, int layer);
  int Ring(int microbatch) const { return microbatch % static_cast<int>(options_.max_in_flight); }
  bool is_training() const { return loss_scale_ != 0; }
  Tensor Hidden(Buffer& buffer) const;
  void FillRope();
  void ReserveTokens(int64_t microbatches);
  void BeginRun();
  enum class Shift { kInputs, kTargets };
  Tensor Tokens(Shift shift, int microbatch) const;  // [T] I32
  void HeadChunk(int microbatch, int64_t first,
                 int64_t tokens);  // logits, losses and gradients of some tokens
  void AddLoss(int microbatch);

  const ModelSpec& spec_;
  LanguageModelOptions options_;
  const ExpertPlacement& placement_;
  ExpertUse& use_;
  Stream& stream_;
  MemoryMeter& memory_;
  AttentionShape shape_;
  DenseParameters parameters_;
  DenseParameters::Id embedding_ = -1, norm_ = -1, head_ = -1;
  std::vector<std::unique_ptr<Layer>> layers_;
  Buffer rope_buffer_;
  RopeTables rope_;

  std::vector<Buffer> saved_buffers_;
  std::vector<std::unique_ptr<LayerSaved>> saved_storage_;
  std::vector<LayerSaved*> free_saved_;
  std::vector<LayerSaved*> saved_;  // [in flight][layer]
  Buffer output_;                   // [T, D] of the running forward microbatch
  std::array<Buffer, 2> grads_;     // [T, D] of the backward microbatch and the one after it
  Buffer attention_scratch_;
  Buffer internals_buffer_;
  AttentionLayer::Saved internals_;  // of the layer that runs, with recompute_attention
  MoeLayer::Scratch moe_scratch_;
  // Inputs and targets of all microbatches, [2, B, T] I32, and on a device the pinned memory they come from.
  Buffer tokens_;
  int64_t max_microbatches_ = 0;
  void* pinned_tokens_ = nullptr;
  int32_t* host_tokens_ = nullptr;
  DeviceContext::Event tokens_sent_ = -1;
  Buffer send_index_;  // [M] I32
  std::vector<double> send_order_;
  Buffer losses_, loss_sum_, normed_, dnormed_, inv_rms_, logits_;

  std::unique_ptr<DecodeState> decode_;  // made by the first Decode

  int64_t num_microbatches_ = 0;
  double loss_scale_ = 0;
  int64_t num_counted_ = 0;
};

}  // namespace unipool
