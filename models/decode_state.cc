#include "models/decode_state.h"

namespace unipool {

namespace {
constexpr int64_t kGap = 64;  // bytes between the beginnings of arrays, at least
}

DecodeState::DecodeState(const ModelSpec& spec, const ExpertPlacement& placement, DType dtype,
                         DeviceContext* device, MemoryMeter& memory)
    : saved_buffer(Buffer::Allocate(memory, MemoryKind::kActivations,
                                    LayerSaved::Bytes(spec, 1, dtype, /*keeps_internals=*/true))),
      saved(spec, 1, placement, dtype, nullptr, device, static_cast<char*>(saved_buffer.data())) {
  const DType exact = AccumulatorOf(dtype);
  const int64_t cache_columns = 2 * spec.kv_heads * spec.head_size();
  const int64_t numbers =
      spec.layers * spec.seq_length * cache_columns + (1 + spec.top_k) * spec.hidden + spec.padded_vocab;
  const int64_t most_bytes = numbers * SizeOf(dtype) + kGap * (spec.layers + 5);
  buffer = Buffer::Allocate(memory, MemoryKind::kActivations, most_bytes);
  char* next = static_cast<char*>(buffer.data());
  auto take = [&](DType type, int64_t num_rows, int64_t columns) {
    const Tensor part(next, type, {num_rows, columns});
    next += (part.bytes() + kGap - 1) / kGap * kGap;
    return part;
  };
  for (int64_t l = 0; l < spec.layers; ++l) caches.push_back(take(dtype, spec.seq_length, cache_columns));
  rows = take(dtype, spec.top_k, spec.hidden);
  normed = take(dtype, 1, spec.hidden);
  inv_rms = take(exact, 1, 1).Reshape({1});
  token = take(DType::kI32, 1, 1).Reshape({1});
  logits = take(dtype, 1, spec.padded_vocab);
  if (!device) return;
  exact_buffer = Buffer::Allocate(memory, MemoryKind::kScratch, spec.padded_vocab * SizeOf(exact));
  exact_logits = exact_buffer.View(exact, {1, spec.padded_vocab});
  host_logits.resize(exact_logits.bytes());
}

}  // namespace unipool
