#include "models/output_head.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"

namespace unipool {

namespace {
// [T, V] never exists at large vocabularies, and the head's work can be spread over slots; but a chunk has
// enough tokens to pay for reading the weights: on a CPU 64 give 98 % of the rate of many, 32 give 90 %.
constexpr int64_t kLogitsPerChunk = 1 << 19, kLeastTokensPerChunk = 64;
// A GPU wants thousands of rows in a product, in whole tiles: 16,384 tokens of a vocabulary of 51,200 are
// four chunks of 4096, 400 MiB in BF16 each.
constexpr int64_t kCudaLogitsPerChunk = 1 << 28, kCudaTile = 256;
}  // namespace

OutputHead::OutputHead(const ModelSpec& spec, const OutputHeadOptions& options, DenseParameters& parameters,
                       Stream& stream, MemoryMeter& memory)
    : spec_(spec),
      options_(options),
      stream_(stream),
      norm_{parameters},
      head_{options.is_spread() ? spread_parameters_ : parameters},
      tokens_(most_tokens()) {
  if (options.is_last) {
    norm_.id = parameters.Declare("model.norm.weight", {spec.hidden}, {.mean = 1}, WeightDecay::kNo);
  }
  if (options.is_last || options.is_spread()) {
    head_.id = head_.parameters.Declare("lm_head.weight", {spec.padded_vocab, spec.hidden},
                                        {.std = spec.init_std}, WeightDecay::kYes);
  }
  if (options.is_spread()) spread_parameters_.Allocate(options.types, options.is_trainable, memory);
  losses_ = Buffer::Allocate(memory, MemoryKind::kScratch, tokens_ * 8);
  loss_sum_ = Buffer::Allocate(memory, MemoryKind::kScratch, 8);
  const auto reserve = [&](int64_t numbers, DType dtype) {
    return Buffer::Reserve(memory, MemoryKind::kScratch, numbers * SizeOf(dtype));
  };
  const int64_t rows = options.is_last ? tokens_ : TokensOf(options.share).size();
  normed_ = reserve(rows * spec.hidden, options.types.activations);
  dnormed_ = reserve(rows * spec.hidden, options.types.activations);
  inv_rms_ = reserve(rows, AccumulatorOf(options.types.activations));
  const int64_t chunk = ChunkTokens(rows, options.head_tokens, stream.device());
  logits_ = reserve(chunk * spec.padded_vocab, options.types.activations);
}

int64_t OutputHead::MostTokens(int64_t padded_vocab, int64_t logits, Device device) {
  if (device == Device::kCpu) return std::max(kLeastTokensPerChunk, logits / padded_vocab);
  return std::max(kCudaTile, logits / padded_vocab / kCudaTile * kCudaTile);
}

int64_t OutputHead::MostTokens(int64_t padded_vocab, Device device) {
  return MostTokens(padded_vocab, device == Device::kCpu ? kLogitsPerChunk : kCudaLogitsPerChunk, device);
}

int64_t OutputHead::ChunkTokens(int64_t tokens, int64_t most, Device device) {
  if (device == Device::kCpu || tokens <= most) return std::min(tokens, most);
  const int64_t chunks = (tokens + most - 1) / most;
  const int64_t even = (tokens + chunks - 1) / chunks;
  return std::min(most, (even + kCudaTile - 1) / kCudaTile * kCudaTile);
}

int64_t OutputHead::ChunkSize(int64_t tokens, int64_t most) const {
  const auto of = [&](int64_t count) { return ChunkTokens(count, options_.head_tokens, stream_.device()); };
  return std::min(of(tokens), of(most));
}

int64_t OutputHead::ShareChunkSize() const {
  const int64_t most = EvenPartition(most_tokens(), options_.num_shares, options_.share).size();
  return ChunkSize(TokensOf(options_.share).size(), most);
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
  if (part.index == 0) Normalize(part.x);
  if (scorer_ && !is_training()) {
    if (part.index + 1 == part.num_parts) Score(part.microbatch);
    return;
  }
  const int64_t size = ChunkSize();
  const Range chunks = EvenPartition((tokens_ + size - 1) / size, part.num_parts, part.index);
  for (int64_t i = chunks.begin; i < chunks.end; ++i) {
    const Range tokens{i * size, std::min((i + 1) * size, tokens_)};
    const Chunk chunk{
        .rows = Hidden(normed_).Rows(tokens.begin, tokens.size()),
        .gradients = is_training() ? Hidden(dnormed_).Rows(tokens.begin, tokens.size()) : Tensor{},
        .tokens = tokens};
    RunChunk(chunk, part.targets);
    if (is_training()) AddWeightGradient(chunk);
  }
  if (part.index + 1 < part.num_parts) return;
  AddLosses(part.microbatch, {0, tokens_});
  if (is_training()) EndNorm(part.x, part.dx);
}

void OutputHead::Normalize(const Tensor& x) {
  const Tensor inv_rms = inv_rms_.UseView(AccumulatorOf(options_.types.activations), {tokens_});
  RmsNormForward(stream_, x, norm_.compute(), spec_.norm_eps, Hidden(normed_), inv_rms);
}

void OutputHead::EndNorm(const Tensor& x, const Tensor& dx) {
  const Tensor inv_rms = inv_rms_.View(AccumulatorOf(options_.types.activations), {tokens_});
  Fill(stream_, dx, 0);  // nothing else leads to x
  RmsNormBackward(stream_, x, norm_.compute(), inv_rms, Hidden(dnormed_), dx, dx, norm_.grad());
}

Tensor OutputHead::LogitsOf(const Chunk& chunk) {
  return logits_.UseView(options_.types.activations, {chunk.tokens.size(), spec_.padded_vocab});
}

void OutputHead::RunChunk(const Chunk& chunk, const Tensor& targets) {
  const Range tokens = chunk.tokens;
  const Tensor logits = LogitsOf(chunk), weight = head_.product();
  const Tensor losses = losses_.View(DType::kF64, {tokens_}).Rows(tokens.begin, tokens.size());
  Gemm(stream_, Trans::kNo, chunk.rows, Trans::kYes, weight, 0, logits);
  CrossEntropy(stream_, logits, targets.Rows(tokens.begin, tokens.size()), loss_scale_, losses);
  if (is_training()) Gemm(stream_, Trans::kNo, logits, Trans::kNo, weight, 0, chunk.gradients);
}

void OutputHead::AddWeightGradient(const Chunk& chunk) {
  Gemm(stream_, Trans::kYes, LogitsOf(chunk), Trans::kNo, chunk.rows, 1, head_.grad(),
       head_.parameters.product_type());
}

Tensor OutputHead::ShareOf(Buffer& buffer, int share) const {
  const Range tokens = TokensOf(share);
  if (options_.is_last) return Hidden(buffer).Rows(tokens.begin, tokens.size());
  CHECK_EQ(share, options_.share) << "the last stage alone has the rows of others";
  return buffer.UseView(options_.types.activations, {tokens.size(), spec_.hidden});
}

int64_t OutputHead::NumShareChunks() const {
  const int64_t tokens = TokensOf(options_.share).size(), size = ShareChunkSize();
  return tokens == 0 ? 0 : (tokens + size - 1) / size;
}

OutputHead::Chunk OutputHead::ShareChunk(int64_t index) {
  const Range share = TokensOf(options_.share);
  const int64_t size = ShareChunkSize(), first = index * size;
  const int64_t count = std::min(size, share.size() - first);
  return {.rows = ShareRows(options_.share).Rows(first, count),
          .gradients = is_training() ? ShareGradients(options_.share).Rows(first, count) : Tensor{},
          .tokens = {share.begin + first, share.begin + first + count}};
}

void OutputHead::RunShare(int microbatch, const Tensor& targets) {
  const int64_t num_chunks = NumShareChunks();
  for (int64_t i = 0; i < num_chunks; ++i) {
    const Chunk chunk = ShareChunk(i);
    RunChunk(chunk, targets);
    if (is_training() && i + 1 < num_chunks) AddWeightGradient(chunk);
  }
  AddLosses(microbatch, TokensOf(options_.share));
}

void OutputHead::AddRest() {
  if (NumShareChunks() > 0) AddWeightGradient(ShareChunk(NumShareChunks() - 1));
}

double OutputHead::Rest() const {
  const int64_t tokens = TokensOf(options_.share).size();
  if (tokens == 0) return 0;
  const int64_t last = tokens - (NumShareChunks() - 1) * ShareChunkSize();
  return static_cast<double>(last) / static_cast<double>(tokens) / 3;  // one product of three
}

void OutputHead::AddLosses(int microbatch, const Range& tokens) {
  const int64_t counted = std::clamp<int64_t>(num_counted_ - microbatch * tokens_, 0, tokens_);
  const Tensor losses = losses_.View(DType::kF64, {tokens_});
  const int64_t end = std::min(counted, tokens.end);
  if (end > tokens.begin) AddSum(stream_, losses.Rows(tokens.begin, end - tokens.begin), loss_sum());
}

// Rows of the norm's output are brought together, so that a product has no others.
void OutputHead::Score(int microbatch) {
  const int64_t chunk = ChunkSize();
  const Tensor weight = head_.product().Rows(0, spec_.vocab);
  for (int64_t first = 0; first < scorer_->num_wanted(microbatch); first += chunk) {
    const int64_t count = std::min(chunk, scorer_->num_wanted(microbatch) - first);
    const Tensor rows = dnormed_.UseView(options_.types.activations, {count, spec_.hidden});
    const Tensor logits = logits_.UseView(options_.types.activations, {count, spec_.vocab});
    const Tensor losses = losses_.View(DType::kF64, {count});
    EmbeddingForward(stream_, scorer_->Rows(microbatch, first, count), Hidden(normed_), rows);
    Gemm(stream_, Trans::kNo, rows, Trans::kYes, weight, 0, logits);
    CrossEntropy(stream_, logits, scorer_->Targets(microbatch, first, count), 0, losses);
    scorer_->Take(microbatch, first, logits, losses);
  }
}

void OutputHead::Logits(const Tensor& x, const Tensor& normed, const Tensor& inv_rms, const Tensor& logits) {
  RmsNormForward(stream_, x, norm_.compute(), spec_.norm_eps, normed, inv_rms);
  Gemm(stream_, Trans::kNo, normed, Trans::kYes, head_.product(), 0, logits);
}

}  // namespace unipool
