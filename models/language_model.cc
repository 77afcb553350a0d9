#include "models/language_model.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/host_values.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "models/decode_state.h"
#include "models/layer_saved.h"
#include "runtime/range.h"

namespace unipool {

namespace {
// The head works on about this many logits at a time, so that [T, V] never exists at large vocabularies and
// its work can be spread over slots; but on enough tokens to pay for reading its weights: 64 give 98 % of the
// rate of many, 32 give 90 %.
constexpr int64_t kLogitsPerChunk = 1 << 19, kLeastTokensPerChunk = 64;
// A GPU wants thousands of rows in a product: 2600 tokens of a vocabulary of 50 thousand, 256 MiB in BF16.
constexpr int64_t kCudaLogitsPerChunk = 1 << 27;
}  // namespace

LanguageModel::LanguageModel(const ModelSpec& spec, const LanguageModelOptions& options,
                             const ExpertPlacement& placement, ExpertUse& use, Stream& stream,
                             MemoryMeter& memory)
    : spec_(spec),
      options_(options),
      placement_(placement),
      use_(use),
      stream_(stream),
      memory_(memory),
      shape_(spec.attention(options.micro_batch)) {
  const ParameterInit weights{.std = spec.init_std};
  const std::vector<int64_t> table{spec.padded_vocab, spec.hidden};
  if (options.is_first) embedding_ = parameters_.Declare("model.embed_tokens.weight", table, weights, true);
  for (int l = static_cast<int>(options.layers.begin); l < options.layers.end; ++l) {
    layers_.push_back(
        std::make_unique<Layer>(Layer{AttentionLayer(spec, l, parameters_, stream),
                                      MoeLayer(spec, l, placement, parameters_, use, stream, memory)}));
  }
  if (options.is_last) {
    norm_ = parameters_.Declare("model.norm.weight", {spec.hidden}, {.mean = 1}, false);
    head_ = parameters_.Declare("lm_head.weight", table, weights, true);
  }
  parameters_.Allocate(options.dtype, options.is_trainable, memory);
  FillRope();

  const int64_t tokens = shape_.tokens(), item = SizeOf(options.dtype);
  const int64_t exact_item = SizeOf(AccumulatorOf(options.dtype));
  saved_.assign(options.max_in_flight * layers_.size(), nullptr);
  auto reserve = [&](MemoryKind kind, int64_t columns) {
    return Buffer::Reserve(memory, kind, tokens * columns * item);
  };
  auto exact = [&](int64_t columns) {
    return Buffer::Reserve(memory, MemoryKind::kScratch, tokens * columns * exact_item);
  };
  output_ = reserve(MemoryKind::kActivations, spec.hidden);
  for (Buffer& grad : grads_) grad = reserve(MemoryKind::kActivations, spec.hidden);
  attention_scratch_ = reserve(MemoryKind::kScratch, spec.hidden + shape_.qkv_size() + shape_.out_size());
  if (options.recompute_attention) {
    const int64_t bytes = AttentionInternalBytes(spec, tokens, options.dtype);
    internals_buffer_ = Buffer::Allocate(memory, MemoryKind::kScratch, bytes);
    AttentionLayer::PlaceInternals(spec, tokens, options.dtype, static_cast<char*>(internals_buffer_.data()),
                                   internals_);
  }
  if (options.saved_layers > 0) AddSaved(options.saved_layers);
  moe_scratch_ = {.returned = reserve(MemoryKind::kExchange, spec.top_k * spec.hidden),
                  .dnormed = reserve(MemoryKind::kScratch, spec.hidden),
                  .dweights = exact(spec.top_k),
                  .router = {.dlogits = exact(spec.experts),
                             .high = reserve(MemoryKind::kScratch, spec.experts),
                             .low = reserve(MemoryKind::kScratch, spec.experts)}};
  send_index_ = Buffer::Allocate(memory, MemoryKind::kScratch, spec.experts * 4);
  losses_ = Buffer::Allocate(memory, MemoryKind::kScratch, tokens * 8);
  loss_sum_ = Buffer::Allocate(memory, MemoryKind::kScratch, 8);
  normed_ = reserve(MemoryKind::kScratch, spec.hidden);
  dnormed_ = reserve(MemoryKind::kScratch, spec.hidden);
  inv_rms_ = exact(1);
  logits_ = Buffer::Reserve(memory, MemoryKind::kScratch, LogitsAtOnce(spec, tokens, stream.device()) * item);
}

LanguageModel::~LanguageModel() {
  if (pinned_tokens_) options_.device->FreePinned(pinned_tokens_);
}

void LanguageModel::FillRope() {
  const DType exact = AccumulatorOf(options_.dtype);
  const int64_t s = spec_.seq_length, half = spec_.head_size() / 2;
  const int64_t bytes = 2 * s * half * SizeOf(exact);
  rope_buffer_ = Buffer::Allocate(memory_, MemoryKind::kScratch, bytes);
  const Tensor tables = rope_buffer_.View(exact, {2 * s, half});
  rope_ = {tables.Rows(0, s), tables.Rows(s, s)};
  if (!options_.device) return FillRopeTables(spec_.rope_base, rope_.cos, rope_.sin);
  std::vector<char> host(bytes);
  const Tensor host_tables(host.data(), exact, {2 * s, half});
  FillRopeTables(spec_.rope_base, host_tables.Rows(0, s), host_tables.Rows(s, s));
  options_.device->Upload(rope_buffer_.data(), host.data(), bytes);
}

int64_t LanguageModel::SavedBytes(const ModelSpec& spec, int64_t tokens, DType dtype,
                                  bool recompute_attention) {
  return LayerSaved().Place(spec, tokens, dtype, !recompute_attention, nullptr);
}

int64_t LanguageModel::AttentionInternalBytes(const ModelSpec& spec, int64_t tokens, DType dtype) {
  AttentionLayer::Saved saved;
  return AttentionLayer::PlaceInternals(spec, tokens, dtype, nullptr, saved);
}

int64_t LanguageModel::LogitsAtOnce(const ModelSpec& spec, int64_t tokens, Device device) {
  return HeadChunkTokens(spec.padded_vocab, tokens, device) * spec.padded_vocab;
}

int64_t LanguageModel::HeadChunkTokens(int64_t padded_vocab, int64_t tokens, Device device) {
  const int64_t logits = device == Device::kCuda ? kCudaLogitsPerChunk : kLogitsPerChunk;
  return std::min(tokens, std::max(kLeastTokensPerChunk, logits / padded_vocab));
}

void LanguageModel::SetSamples(const Tensor& samples, double loss_scale, int64_t num_counted) {
  CHECK_EQ(samples.dim(1), options_.micro_batch);
  CHECK_EQ(samples.dim(2), spec_.seq_length + 1);
  loss_scale_ = loss_scale;
  num_counted_ = num_counted;
  num_microbatches_ = samples.dim(0);
  Fill(stream_, loss_sum(), 0);
  BeginRun();
  ReserveTokens(num_microbatches_);
  DeviceContext* const device = options_.device;
  if (device) device->WaitOnHost(tokens_sent_, {.operation = "copy of the samples"});
  const int64_t sequences = samples.dim(0) * samples.dim(1), s = spec_.seq_length;
  const int32_t* from = samples.as<int32_t>();
  for (int64_t i = 0; i < sequences; ++i) {
    std::copy_n(from + i * (s + 1), s, host_tokens_ + i * s);
    std::copy_n(from + i * (s + 1) + 1, s, host_tokens_ + (sequences + i) * s);
  }
  if (!device) return;
  device->Copy(DeviceQueue::kCompute, tokens_.data(), host_tokens_, 2 * sequences * s * 4);
  device->Record(tokens_sent_, DeviceQueue::kCompute);
}

void LanguageModel::ReserveTokens(int64_t microbatches) {
  if (microbatches <= max_microbatches_) return;
  max_microbatches_ = microbatches;
  const int64_t bytes = 2 * microbatches * shape_.tokens() * 4;
  tokens_ = Buffer();
  tokens_ = Buffer::Allocate(memory_, MemoryKind::kScratch, bytes);
  host_tokens_ = static_cast<int32_t*>(tokens_.data());
  DeviceContext* const device = options_.device;
  if (!device) return;
  if (pinned_tokens_) device->FreePinned(pinned_tokens_);
  pinned_tokens_ = device->AllocatePinned(bytes);
  host_tokens_ = static_cast<int32_t*>(pinned_tokens_);
  if (tokens_sent_ < 0) tokens_sent_ = device->MakeEvent();
}

// Experts may have moved and weights changed since the last run.
void LanguageModel::BeginRun() {
  for (const auto& layer : layers_) layer->moe.RefreshWeights();
  send_order_.resize(spec_.experts);
  for (int expert = 0; expert < spec_.experts; ++expert) send_order_[expert] = placement_.send_index(expert);
  SetValues(stream_, send_order_, send_index_.View(DType::kI32, {spec_.experts}));
}

Tensor LanguageModel::Tokens(Shift shift, int microbatch) const {
  const int64_t row = (shift == Shift::kTargets ? num_microbatches_ : 0) + microbatch;
  return tokens_.View(DType::kI32, {2 * num_microbatches_, shape_.tokens()})
      .Rows(row, 1)
      .Reshape({shape_.tokens()});
}

LanguageModel::LayerSaved& LanguageModel::SavedOf(int microbatch, int layer) {
  LayerSaved*& saved = saved_[Ring(microbatch) * layers_.size() + layer];
  if (!saved) {
    if (free_saved_.empty()) AddSaved(1);
    saved = free_saved_.back();
    free_saved_.pop_back();
  }
  return *saved;
}

void LanguageModel::AddSaved(int64_t count) {
  const int64_t bytes = SavedBytes(spec_, shape_.tokens(), options_.dtype, options_.recompute_attention);
  saved_buffers_.push_back(Buffer::Allocate(memory_, MemoryKind::kActivations, count * bytes));
  char* const base = static_cast<char*>(saved_buffers_.back().data());
  for (int64_t i = 0; i < count; ++i) {
    saved_storage_.push_back(std::make_unique<LayerSaved>(
        spec_, shape_.tokens(), placement_, options_.dtype,
        options_.recompute_attention ? &internals_ : nullptr, options_.device, base + i * bytes));
    free_saved_.push_back(saved_storage_.back().get());
  }
  free_saved_.reserve(saved_storage_.size());
}

void LanguageModel::Release(int microbatch, int layer) {
  LayerSaved*& saved = saved_[Ring(microbatch) * layers_.size() + layer];
  free_saved_.push_back(saved);
  saved = nullptr;
}

Tensor LanguageModel::Hidden(Buffer& buffer) const {
  return buffer.UseView(options_.dtype, {shape_.tokens(), spec_.hidden});
}

Tensor LanguageModel::ForwardInput(int microbatch) {
  return SavedOf(microbatch, 0).attention.x;
}
Tensor LanguageModel::ForwardOutput(int) {
  return Hidden(output_);
}
Tensor LanguageModel::BackwardInput(int microbatch) {
  return Hidden(grads_[microbatch % 2]);
}
Tensor LanguageModel::BackwardOutput(int microbatch) {
  return Hidden(grads_[microbatch % 2]);
}

void LanguageModel::BeginForward(int microbatch) {
  if (!options_.is_first) return;
  EmbeddingForward(stream_, Tokens(Shift::kInputs, microbatch), parameters_.value(embedding_),
                   ForwardInput(microbatch));
}

void LanguageModel::ForwardRoute(int microbatch, int layer) {
  LayerSaved& saved = SavedOf(microbatch, layer);
  layers_[layer]->attention.Forward(shape_, rope_, saved.attention, saved.moe.h);
  layers_[layer]->moe.ForwardRoute(saved.moe, send_index_.View(DType::kI32, {spec_.experts}));
  saved.SendReport();
}

void LanguageModel::Plan(int microbatch, int layer, const ExchangeLabel& label) {
  LayerSaved& saved = SavedOf(microbatch, layer);
  saved.WaitForReport(label);
  layers_[layer]->moe.Plan(saved.moe);
}

const DispatchHandle& LanguageModel::Handle(int microbatch, int layer) {
  return SavedOf(microbatch, layer).moe.handle;
}

void LanguageModel::ForwardPermute(int microbatch, int layer, const Tensor& send_rows) {
  layers_[layer]->moe.ForwardPermute(SavedOf(microbatch, layer).moe, send_rows);
}

Tensor LanguageModel::ReturnedRows(Lane lane, int microbatch, int layer) {
  const MoeLayer::Saved& saved = SavedOf(microbatch, layer).moe;
  if (lane == Lane::kForward) return saved.rows_of_y();
  return moe_scratch_.returned.UseView(options_.dtype, {saved.handle.plan.num_rows, spec_.hidden});
}

void LanguageModel::ForwardUnpermute(int microbatch, int layer) {
  const bool is_top = layer + 1 == static_cast<int>(layers_.size());
  const Tensor out = is_top ? ForwardOutput(microbatch) : SavedOf(microbatch, layer + 1).attention.x;
  layers_[layer]->moe.ForwardUnpermute(SavedOf(microbatch, layer).moe, out);
  if (!is_training()) Release(microbatch, layer);
}

// The first part also normalises all tokens; the last also sums their losses and takes the gradient through
// the norm. A part is whole chunks, so that sums have the same order however many parts there are.
void LanguageModel::Head(int microbatch, int part, int num_parts) {
  const int64_t tokens = shape_.tokens();
  const int64_t chunk = HeadChunkTokens(spec_.padded_vocab, tokens, stream_.device());
  const Tensor x = ForwardOutput(microbatch);
  const Tensor inv_rms = inv_rms_.UseView(AccumulatorOf(options_.dtype), {tokens});
  const Tensor norm = parameters_.value(norm_);
  if (part == 0) RmsNormForward(stream_, x, norm, spec_.norm_eps, Hidden(normed_), inv_rms);
  const Range chunks = EvenPartition((tokens + chunk - 1) / chunk, num_parts, part);
  for (int64_t i = chunks.begin; i < chunks.end; ++i) {
    HeadChunk(microbatch, i * chunk, std::min(chunk, tokens - i * chunk));
  }
  if (part + 1 < num_parts) return;
  AddLoss(microbatch);
  if (!is_training()) return;
  const Tensor dx = BackwardInput(microbatch);
  Fill(stream_, dx, 0);  // nothing else leads to x
  RmsNormBackward(stream_, x, norm, inv_rms, Hidden(dnormed_), dx, dx, parameters_.grad(norm_));
}

void LanguageModel::HeadChunk(int microbatch, int64_t first, int64_t tokens) {
  const Tensor normed = Hidden(normed_).Rows(first, tokens), weight = parameters_.value(head_);
  const Tensor logits = logits_.UseView(options_.dtype, {tokens, spec_.padded_vocab});
  const Tensor losses = losses_.View(DType::kF64, {shape_.tokens()}).Rows(first, tokens);
  const Tensor targets = Tokens(Shift::kTargets, microbatch).Rows(first, tokens);
  Gemm(stream_, Trans::kNo, normed, Trans::kYes, weight, 0, logits);
  CrossEntropy(stream_, logits, targets, loss_scale_, losses);
  if (!is_training()) return;
  Gemm(stream_, Trans::kNo, logits, Trans::kNo, weight, 0, Hidden(dnormed_).Rows(first, tokens));
  Gemm(stream_, Trans::kYes, logits, Trans::kNo, normed, 1, parameters_.grad(head_));
}

void LanguageModel::AddLoss(int microbatch) {
  const int64_t counted =
      std::clamp<int64_t>(num_counted_ - microbatch * options_.micro_batch, 0, options_.micro_batch);
  const Tensor losses = losses_.View(DType::kF64, {shape_.tokens()});
  if (counted > 0) AddSum(stream_, losses.Rows(0, counted * spec_.seq_length), loss_sum());
}

void LanguageModel::EndForward(int microbatch) {
  if (is_training()) use_.EndMicrobatch(microbatch);
}

void LanguageModel::BackwardUnpermute(int microbatch, int layer, const Tensor& send_rows) {
  layers_[layer]->moe.BackwardUnpermute(SavedOf(microbatch, layer).moe, BackwardInput(microbatch), send_rows,
                                        moe_scratch_);
}

void LanguageModel::BackwardPermute(int microbatch, int layer) {
  layers_[layer]->moe.BackwardPermute(SavedOf(microbatch, layer).moe,
                                      ReturnedRows(Lane::kBackward, microbatch, layer), moe_scratch_);
}

void LanguageModel::BackwardRoute(int microbatch, int layer) {
  LayerSaved& saved = SavedOf(microbatch, layer);
  const Tensor dout = BackwardInput(microbatch);
  layers_[layer]->moe.BackwardRoute(saved.moe, microbatch, dout, moe_scratch_);
  if (options_.recompute_attention) layers_[layer]->attention.Recompute(shape_, rope_, saved.attention);
  layers_[layer]->attention.Backward(shape_, rope_, saved.attention, dout, attention_scratch_);
  Release(microbatch, layer);
}

void LanguageModel::EndBackward(int microbatch) {
  if (!options_.is_first) return;
  EmbeddingBackward(stream_, Tokens(Shift::kInputs, microbatch), BackwardOutput(microbatch),
                    parameters_.grad(embedding_));
}

}  // namespace unipool
