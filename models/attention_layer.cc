#include "models/attention_layer.h"

#include <cmath>

#include "kernels/gemm.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

namespace unipool {

AttentionLayer::AttentionLayer(const ModelSpec& spec, int layer, DenseParameters& parameters, Stream& stream)
    : spec_(spec), parameters_(parameters), stream_(stream) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const int64_t d = spec.hidden, kv = spec.kv_heads * spec.head_size();
  const ParameterInit weights{.std = spec.init_std};
  const ParameterInit output{.std = spec.init_std / std::sqrt(2.0 * spec.layers)};
  norm_ = parameters.Declare(prefix + "input_layernorm.weight", {d}, {.mean = 1}, WeightDecay::kNo);
  q_ = parameters.Declare(prefix + "self_attn.q_proj.weight", {d, d}, weights, WeightDecay::kYes);
  parameters.Declare(prefix + "self_attn.k_proj.weight", {kv, d}, weights, WeightDecay::kYes);
  parameters.Declare(prefix + "self_attn.v_proj.weight", {kv, d}, weights, WeightDecay::kYes);
  o_ = parameters.Declare(prefix + "self_attn.o_proj.weight", {d, d}, output, WeightDecay::kYes);
}

int64_t AttentionLayer::PlaceInternals(const ModelSpec& spec, int64_t tokens, DType dtype, char* base,
                                       Saved& saved) {
  int64_t bytes = 0;
  auto place = [&](DType type, std::initializer_list<int64_t> shape) {
    const Tensor tensor(base ? base + bytes : nullptr, type, shape);
    bytes += (tensor.bytes() + 63) / 64 * 64;
    return tensor;
  };
  saved.inv_rms = place(AccumulatorOf(dtype), {tokens});
  saved.normed = place(dtype, {tokens, spec.hidden});
  saved.qkv = place(dtype, {tokens, spec.qkv_size()});
  saved.mixed = place(dtype, {tokens, spec.hidden});
  saved.lse = place(AccumulatorOf(dtype), {tokens, spec.heads});
  return bytes;
}

int64_t AttentionLayer::InternalBytes(const ModelSpec& spec, int64_t tokens, DType dtype) {
  Saved saved;
  return PlaceInternals(spec, tokens, dtype, nullptr, saved);
}

void AttentionLayer::ProjectQkv(const Saved& saved) {
  RmsNormForward(stream_, saved.x, parameters_.compute(norm_), spec_.norm_eps, saved.normed, saved.inv_rms);
  Gemm(stream_, Trans::kNo, saved.normed, Trans::kYes, parameters_.FusedProduct(q_, 3), 0, saved.qkv);
}

void AttentionLayer::ProjectOut(const Saved& saved, const Tensor& out) {
  Copy(stream_, saved.x, out);
  Gemm(stream_, Trans::kNo, saved.mixed, Trans::kYes, parameters_.product(o_), 1, out);
}

void AttentionLayer::Forward(const AttentionShape& shape, const RopeTables& rope, const Saved& saved,
                             const Tensor& out) {
  FillSaved(shape, rope, saved);
  ProjectOut(saved, out);
}

void AttentionLayer::FillSaved(const AttentionShape& shape, const RopeTables& rope, const Saved& saved) {
  ProjectQkv(saved);
  Rope(stream_, shape, rope.cos, rope.sin, RopeDirection::kForward, saved.qkv);
  AttentionForward(stream_, shape, saved.qkv, saved.mixed, saved.lse);
}

void AttentionLayer::Decode(const AttentionShape& shape, const RopeTables& rope, const Saved& saved,
                            const Tensor& cache, int64_t position, const Tensor& out) {
  ProjectQkv(saved);
  Rope(stream_, shape, rope.cos, rope.sin, RopeDirection::kForward, saved.qkv, position);
  AttentionDecode(stream_, shape, saved.qkv, cache, position, saved.mixed);
  ProjectOut(saved, out);
}

void AttentionLayer::Backward(const AttentionShape& shape, const RopeTables& rope, const Saved& saved,
                              const Tensor& dout, Buffer& scratch) {
  const int64_t tokens = shape.tokens(), qkv_size = shape.qkv_size(), mixed_size = shape.out_size();
  const int64_t columns = mixed_size + qkv_size + spec_.hidden;
  const Tensor flat = scratch.UseView(dout.dtype, {tokens * columns});
  const Tensor dmixed = flat.Rows(0, tokens * mixed_size).Reshape({tokens, mixed_size});
  const Tensor dqkv = flat.Rows(tokens * mixed_size, tokens * qkv_size).Reshape({tokens, qkv_size});
  const Tensor dnormed =
      flat.Rows(tokens * (mixed_size + qkv_size), tokens * spec_.hidden).Reshape({tokens, spec_.hidden});

  Gemm(stream_, Trans::kNo, dout, Trans::kNo, parameters_.product(o_), 0, dmixed);
  Gemm(stream_, Trans::kYes, dout, Trans::kNo, saved.mixed, 1, parameters_.grad(o_),
       parameters_.product_type());
  AttentionBackward(stream_, shape, saved.qkv, saved.mixed, saved.lse, dmixed, dqkv);
  Rope(stream_, shape, rope.cos, rope.sin, RopeDirection::kBackward, dqkv);
  Gemm(stream_, Trans::kNo, dqkv, Trans::kNo, parameters_.FusedProduct(q_, 3), 0, dnormed);
  Gemm(stream_, Trans::kYes, dqkv, Trans::kNo, saved.normed, 1, parameters_.FusedGrad(q_, 3),
       parameters_.product_type());
  RmsNormBackward(stream_, saved.x, parameters_.compute(norm_), saved.inv_rms, dnormed, dout, dout,
                  parameters_.grad(norm_));
}

}  // namespace unipool
