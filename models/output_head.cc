#include "models/output_head.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"

namespace unipool {

namespace {
// The head works on about this many logits at a time, so that [T, V] never exists at large vocabularies and
// its work can be spread over slots; but on enough tokens to pay for reading its weights: 64 give 98 % of the
// rate of many, 32 give 90 %.
constexpr int64_t kLogitsPerChunk = 1 << 19, kLeastTokensPerChunk = 64;
// A GPU wants thousands of rows in a product, in whole tiles: 16,384 tokens of a vocabulary of 51,200 are
// four chunks of 4096, 400 MiB in BF16 each.
constexpr int64_t kCudaLogitsPerChunk = 1 << 28, kCudaTile = 256;
}  // namespace

OutputHead::OutputHead(const ModelSpec& spec, const OutputHeadOptions& options, DenseParameters& parameters,
                       Stream& stream, MemoryMeter& memory)
    : spec_(spec), options_(options), parameters_(parameters), stream_(stream), tokens_(most_tokens()) {
  if (options.is_last) {
    norm_ = parameters.Declare("model.norm.weight", {spec.hidden}, {.mean = 1}, WeightDecay::kNo);
    head_ = parameters.Declare("lm_head.weight", {spec.padded_vocab, spec.hidden}, {.std = spec.init_std},
                               WeightDecay::kYes);
  }
  losses_ = Buffer::Allocate(memory, MemoryKind::kScratch, tokens_ * 8);
  loss_sum_ = Buffer::Allocate(memory, MemoryKind::kScratch, 8);
  const auto reserve = [&](int64_t numbers, DType dtype) {
    return Buffer::Reserve(memory, MemoryKind::kScratch, numbers * SizeOf(dtype));
  };
  normed_ = reserve(tokens_ * spec.hidden, options.dtype);
  dnormed_ = reserve(tokens_ * spec.hidden, options.dtype);
  inv_rms_ = reserve(tokens_, AccumulatorOf(options.dtype));
  logits_ = reserve(LogitsAtOnce(spec, tokens_, stream.device()), options.dtype);
}

int64_t OutputHead::LogitsAtOnce(const ModelSpec& spec, int64_t tokens, Device device) {
  return ChunkTokens(spec.padded_vocab, tokens, device) * spec.padded_vocab;
}

int64_t OutputHead::ChunkTokens(int64_t padded_vocab, int64_t tokens, Device device) {
  if (device == Device::kCpu)
    return std::min(tokens, std::max(kLeastTokensPerChunk, kLogitsPerChunk / padded_vocab));
  const int64_t most = std::max(kCudaTile, kCudaLogitsPerChunk / padded_vocab / kCudaTile * kCudaTile);
  const int64_t chunks = std::max<int64_t>(1, (tokens + most - 1) / most);
  const int64_t even = (tokens + chunks - 1) / chunks;
  return std::min(tokens, (even + kCudaTile - 1) / kCudaTile * kCudaTile);
}

int64_t OutputHead::Chunk() const {
  const auto of = [&](int64_t tokens) { return ChunkTokens(spec_.padded_vocab, tokens, stream_.device()); };
  return std::min(of(tokens_), of(most_tokens()));
}

void OutputHead::BeginRun(double loss_scale, int64_t tokens_per_microbatch, int64_t num_counted) {
  loss_scale_ = loss_scale;
  tokens_ = tokens_per_microbatch;
  num_counted_ = num_counted;
  Fill(stream_, loss_sum(), 0);
}

// The first part also normalises all tokens; the last also sums their losses and takes the gradient through
// the norm. A part is whole chunks, so that sums have the same order however many parts there are.
void OutputHead::Run(const Part& part) {
  const int64_t chunk = Chunk();
  const Tensor inv_rms = inv_rms_.UseView(AccumulatorOf(options_.dtype), {tokens_});
  const Tensor norm = parameters_.compute(norm_);
  if (part.index == 0) RmsNormForward(stream_, part.x, norm, spec_.norm_eps, Hidden(normed_), inv_rms);
  if (scorer_ && !is_training()) {
    if (part.index + 1 == part.num_parts) Score(part.microbatch);
    return;
  }
  const Range chunks = EvenPartition((tokens_ + chunk - 1) / chunk, part.num_parts, part.index);
  for (int64_t i = chunks.begin; i < chunks.end; ++i) {
    RunChunk(part.targets, i * chunk, std::min(chunk, tokens_ - i * chunk));
  }
  if (part.index + 1 < part.num_parts) return;
  AddLosses(part.microbatch);
  if (!is_training()) return;
  Fill(stream_, part.dx, 0);  // nothing else leads to x
  RmsNormBackward(stream_, part.x, norm, inv_rms, Hidden(dnormed_), part.dx, part.dx,
                  parameters_.grad(norm_));
}

void OutputHead::RunChunk(const Tensor& targets, int64_t first, int64_t num_tokens) {
  const Tensor normed = Hidden(normed_).Rows(first, num_tokens), weight = parameters_.compute(head_);
  const Tensor logits = logits_.UseView(options_.dtype, {num_tokens, spec_.padded_vocab});
  const Tensor losses = losses_.View(DType::kF64, {tokens_}).Rows(first, num_tokens);
  Gemm(stream_, Trans::kNo, normed, Trans::kYes, weight, 0, logits);
  CrossEntropy(stream_, logits, targets.Rows(first, num_tokens), loss_scale_, losses);
  if (!is_training()) return;
  Gemm(stream_, Trans::kNo, logits, Trans::kNo, weight, 0, Hidden(dnormed_).Rows(first, num_tokens));
  Gemm(stream_, Trans::kYes, logits, Trans::kNo, normed, 1, parameters_.grad(head_));
}

void OutputHead::AddLosses(int microbatch) {
  const int64_t counted = std::clamp<int64_t>(num_counted_ - microbatch * tokens_, 0, tokens_);
  const Tensor losses = losses_.View(DType::kF64, {tokens_});
  if (counted > 0) AddSum(stream_, losses.Rows(0, counted), loss_sum());
}

// Rows of the norm's output are brought together, so that a product has no others.
void OutputHead::Score(int microbatch) {
  const int64_t chunk = Chunk();
  const Tensor weight = parameters_.compute(head_).Rows(0, spec_.vocab);
  for (int64_t first = 0; first < scorer_->num_wanted(microbatch); first += chunk) {
    const int64_t count = std::min(chunk, scorer_->num_wanted(microbatch) - first);
    const Tensor rows = dnormed_.UseView(options_.dtype, {count, spec_.hidden});
    const Tensor logits = logits_.UseView(options_.dtype, {count, spec_.vocab});
    const Tensor losses = losses_.View(DType::kF64, {count});
    EmbeddingForward(stream_, scorer_->Rows(microbatch, first, count), Hidden(normed_), rows);
    Gemm(stream_, Trans::kNo, rows, Trans::kYes, weight, 0, logits);
    CrossEntropy(stream_, logits, scorer_->Targets(microbatch, first, count), 0, losses);
    scorer_->Take(microbatch, first, logits, losses);
  }
}

void OutputHead::Logits(const Tensor& x, const Tensor& normed, const Tensor& inv_rms, const Tensor& logits) {
  RmsNormForward(stream_, x, parameters_.compute(norm_), spec_.norm_eps, normed, inv_rms);
  Gemm(stream_, Trans::kNo, normed, Trans::kYes, parameters_.compute(head_), 0, logits);
}

}  // namespace unipool
