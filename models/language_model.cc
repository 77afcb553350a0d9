#include "models/language_model.h"

#include <algorithm>

namespace unipool {

namespace {

std::optional<Stream> OtherQueue(DeviceContext* device, MemoryMeter& memory) {
  if (!device) return {};
  return std::optional<Stream>(
      std::in_place, memory,
      CudaQueue{.stream = device->queue(DeviceQueue::kCommunication), .memory = device});
}

}  // namespace

LanguageModel::LanguageModel(const ModelSpec& spec, const LanguageModelOptions& options,
                             const ExpertPlacement& placement, ExpertUse& use, Stream& stream,
                             MemoryMeter& memory)
    : spec_(spec),
      options_(options),
      placement_(placement),
      use_(use),
      stream_(stream),
      communication_(OtherQueue(options.device, memory)),
      memory_(memory),
      inputs_(spec, shape().tokens(), options.is_first, parameters_, options.device, stream, memory),
      layers_(DeclareLayers(use)),
      head_(spec,
            {.types = options.types,
             .micro_batch = options.micro_batch,
             .is_last = options.is_last,
             .num_shares = options.head_shares,
             .share = options.head_share,
             .is_trainable = options.is_trainable,
             .head_tokens = options.head_tokens},
            parameters_, stream, memory),
      rope_(spec, options.types.activations, options.device, memory),
      send_order_(spec, placement,
                  {.layers = options.layers, .sources = options.sources, .rank = options.rank}, stream,
                  memory),
      saved_(spec,
             {.dtype = options.types.activations,
              .tokens = shape().tokens(),
              .num_layers = options.layers.size(),
              .max_in_flight = options.max_in_flight,
              .num_pieces = options.saved_layers,
              .recompute_attention = options.recompute_attention,
              .device = options.device},
             placement, memory),
      shared_(ReserveShared()) {
  parameters_.Allocate(options.types, options.is_trainable, memory);
}

std::vector<std::unique_ptr<LanguageModel::Layer>> LanguageModel::DeclareLayers(ExpertUse& use) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (int64_t l = options_.layers.begin; l < options_.layers.end; ++l) {
    const int layer = static_cast<int>(l);
    layers.push_back(std::make_unique<Layer>(
        Layer{AttentionLayer(spec_, layer, parameters_, stream_),
              MoeLayer(spec_, layer, placement_, parameters_, use, stream_, memory_)}));
  }
  return layers;
}

LanguageModel::Shared LanguageModel::ReserveShared() const {
  const int64_t tokens = shape().tokens(), d = spec_.hidden;
  const DType dtype = options_.types.activations, exact = AccumulatorOf(dtype);
  const auto reserve = [&](MemoryKind kind, DType type, int64_t columns) {
    return Buffer::Reserve(memory_, kind, tokens * columns * SizeOf(type));
  };
  const auto scratch = [&](DType type, int64_t columns) {
    return reserve(MemoryKind::kScratch, type, columns);
  };
  return {.output = reserve(MemoryKind::kActivations, dtype, d),
          .grads = {reserve(MemoryKind::kActivations, dtype, d), reserve(MemoryKind::kActivations, dtype, d)},
          .attention = scratch(dtype, d + shape().qkv_size() + shape().out_size()),
          .moe = {.returned = reserve(MemoryKind::kExchange, dtype, spec_.top_k * d),
                  .dnormed = scratch(dtype, d),
                  .dweights = scratch(exact, spec_.top_k),
                  .router = {.dlogits = scratch(exact, spec_.experts),
                             .high = scratch(dtype, spec_.experts),
                             .low = scratch(dtype, spec_.experts)}}};
}

void LanguageModel::SetSamples(const Tensor& samples, double loss_scale, int64_t num_counted) {
  run_.is_training = loss_scale != 0;
  run_.shape = spec_.attention(samples.dim(1));
  run_.shape.sequence_length = samples.dim(2) - 1;
  CHECK(!run_.is_training || run_.shape.sequence_length == spec_.seq_length) << run_.shape.sequence_length;
  run_.num_counted = num_counted * run_.shape.sequence_length;
  saved_.SetTokens(run_.shape.tokens());
  head_.BeginRun(loss_scale, run_.shape.tokens(), run_.num_counted);
  BeginRun();
  inputs_.Set(samples);
}

// Experts may have moved and weights changed since the last run.
void LanguageModel::BeginRun() {
  for (const auto& layer : layers_) layer->moe.RefreshWeights();
  send_order_.Refresh();
}

Tensor LanguageModel::Hidden(Buffer& buffer) const {
  return buffer.UseView(options_.types.activations, {run_.shape.tokens(), spec_.hidden});
}

Tensor LanguageModel::ForwardInput(int microbatch) {
  return saved_.Of(microbatch, 0).attention.x;
}
Tensor LanguageModel::ForwardOutput(int) {
  return Hidden(shared_.output);
}
Tensor LanguageModel::BackwardInput(int microbatch) {
  return Hidden(shared_.grads[microbatch % 2]);
}
Tensor LanguageModel::BackwardOutput(int microbatch) {
  return Hidden(shared_.grads[microbatch % 2]);
}

void LanguageModel::BeginForward(int microbatch) {
  if (options_.is_first) inputs_.Embed(inputs_.inputs(microbatch), ForwardInput(microbatch));
}

void LanguageModel::ForwardRoute(int microbatch, int layer) {
  LayerSaved& saved = saved_.Of(microbatch, layer);
  layers_[layer]->attention.Forward(run_.shape, rope_, saved.attention, saved.moe.h);
  layers_[layer]->moe.ForwardRoute(saved.moe, send_order_, microbatch);
  saved.SendReport();
}

void LanguageModel::Plan(int microbatch, int layer, const ExchangeLabel& label) {
  LayerSaved& saved = saved_.Of(microbatch, layer);
  saved.WaitForReport(label);
  layers_[layer]->moe.Plan(saved.moe);
  if (use_.lock && !run_.is_training) {
    use_.lock->AddChoices(microbatch, LayerOfModel(layer), layers_[layer]->moe.ChoicesOf(saved.moe.report));
  }
  if (run_.probe) run_.probe->Routed(LayerOfModel(layer), saved.moe.router, CountedTokens(microbatch));
}

int64_t LanguageModel::CountedTokens(int microbatch) const {
  const int64_t tokens = run_.shape.tokens();
  return std::clamp<int64_t>(run_.num_counted - microbatch * tokens, 0, tokens);
}

const DispatchHandle& LanguageModel::Handle(int microbatch, int layer) {
  return saved_.Of(microbatch, layer).moe.handle;
}

void LanguageModel::ForwardPermute(int microbatch, int layer, const Tensor& send_rows, DeviceQueue queue) {
  const bool is_beside = communication_ && queue == DeviceQueue::kCommunication;
  if (is_beside) communication_->set_profile(stream_.profile());
  layers_[layer]->moe.ForwardPermute(saved_.Of(microbatch, layer).moe, send_rows,
                                     is_beside ? *communication_ : stream_);
}

Tensor LanguageModel::ReturnedRows(Lane lane, int microbatch, int layer) {
  const MoeLayer::Saved& saved = saved_.Of(microbatch, layer).moe;
  if (lane == Lane::kForward) return saved.rows_of_y();
  return shared_.moe.returned.UseView(options_.types.activations, {saved.handle.plan.num_rows, spec_.hidden});
}

void LanguageModel::ForwardUnpermute(int microbatch, int layer) {
  const bool is_top = layer + 1 == static_cast<int>(layers_.size());
  const Tensor out = is_top ? ForwardOutput(microbatch) : saved_.Of(microbatch, layer + 1).attention.x;
  layers_[layer]->moe.ForwardUnpermute(saved_.Of(microbatch, layer).moe, out);
  if (run_.probe)
    run_.probe->Left(LayerOfModel(layer), out, inputs_.targets(microbatch), CountedTokens(microbatch));
  if (!run_.is_training) saved_.Release(microbatch, layer);
}

void LanguageModel::Head(int microbatch, int part, int num_parts) {
  head_.Run({.index = part,
             .num_parts = num_parts,
             .microbatch = microbatch,
             .x = ForwardOutput(microbatch),
             .targets = inputs_.targets(microbatch),
             .dx = run_.is_training ? BackwardInput(microbatch) : Tensor{}});
}

void LanguageModel::EndForward(int microbatch) {
  if (run_.is_training) use_.EndMicrobatch(microbatch);
}

void LanguageModel::BackwardUnpermute(int microbatch, int layer, const Tensor& send_rows) {
  layers_[layer]->moe.BackwardUnpermute(saved_.Of(microbatch, layer).moe, BackwardInput(microbatch),
                                        send_rows, shared_.moe);
}

void LanguageModel::BackwardPermute(int microbatch, int layer) {
  layers_[layer]->moe.BackwardPermute(saved_.Of(microbatch, layer).moe,
                                      ReturnedRows(Lane::kBackward, microbatch, layer), shared_.moe);
}

void LanguageModel::BackwardRoute(int microbatch, int layer) {
  LayerSaved& saved = saved_.Of(microbatch, layer);
  const Tensor dout = BackwardInput(microbatch);
  layers_[layer]->moe.BackwardRoute(saved.moe, microbatch, dout, shared_.moe);
  if (options_.recompute_attention) layers_[layer]->attention.FillSaved(run_.shape, rope_, saved.attention);
  layers_[layer]->attention.Backward(run_.shape, rope_, saved.attention, dout, shared_.attention);
  saved_.Release(microbatch, layer);
}

void LanguageModel::EndBackward(int microbatch) {
  if (options_.is_first) inputs_.EmbedBackward(microbatch, BackwardOutput(microbatch));
}

}  // namespace unipool
