// Times every CUDA kernel on a GPU and prints a table (tools/bench/cuda_timing.h).
//   cuda_kernel_bench [name]     only rows whose name contains `name`
// Sizes: a kernel moves at least 256 MB, several times the L2 cache of an H200 (50 MB); D = 1024, F = 4096,
// V = 50304.
#include <cstdio>

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/permute.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/router_forward.h"
#include "kernels/swiglu.h"
#include "tools/bench/cuda_exchanges.h"
#include "tools/bench/cuda_products.h"
#include "tools/bench/cuda_timing.h"

namespace unipool {
namespace {

constexpr int64_t kTokens = 128 << 10, kHidden = 1024, kWidth = 4096, kVocabulary = 50304;
constexpr DType kTypes[] = {DType::kBF16, DType::kF32};

void Norms(CudaBench& bench, DType type) {
  Stream& s = bench.stream();
  const std::string of = std::string(" ") + NameOf(type);
  const Tensor x = bench.Random(type, {kTokens, kHidden}), delta = bench.Random(type, {kTokens, kHidden});
  const Tensor y = bench.Random(type, {kTokens, kHidden}), sum = bench.Random(type, {kTokens, kHidden});
  const Tensor weight = bench.Random(type, {kHidden}), inv_rms = bench.RandomPositive(DType::kF32, {kTokens});
  const Tensor dweight = bench.Random(DType::kF32, {kHidden});
  bench.Run("rms norm forward" + of, [&] { RmsNormForward(s, x, weight, 1e-5, y, inv_rms); });
  bench.Run("rms norm backward" + of,
            [&] { RmsNormBackward(s, x, weight, inv_rms, delta, sum, y, dweight); });
  bench.Clear();
}

void Activations(CudaBench& bench, DType type) {
  Stream& s = bench.stream();
  const std::string of = std::string(" ") + NameOf(type);
  const int64_t rows = kTokens / 4;
  const Tensor gate_up = bench.Random(type, {rows, 2 * kWidth}),
               dgate_up = bench.Random(type, {rows, 2 * kWidth});
  const Tensor activation = bench.Random(type, {rows, kWidth}),
               dactivation = bench.Random(type, {rows, kWidth});
  bench.Run("swiglu forward" + of, [&] { SwigluForward(s, gate_up, activation); });
  bench.Run("swiglu backward" + of, [&] { SwigluBackward(s, gate_up, dactivation, dgate_up, activation); });
  bench.Clear();
}

// top_k choices of each token; rows of type `row`, tokens of type `token`.
void Permutes(CudaBench& bench, DType row, DType token, int64_t top_k) {
  Stream& s = bench.stream();
  const std::string of =
      std::string(" ") + NameOf(row) + " rows, " + NameOf(token) + " tokens, k " + std::to_string(top_k);
  const int64_t num_rows = kTokens * top_k;
  const Tensor tokens = bench.Random(token, {kTokens, kHidden}),
               out = bench.Random(token, {kTokens, kHidden});
  const Tensor rows = bench.Random(row, {num_rows, kHidden}), drows = bench.Random(row, {num_rows, kHidden});
  const Tensor row_of = bench.RandomOrder({kTokens, top_k}), source = bench.RandomBelow(kTokens, {num_rows});
  const Tensor weights = bench.RandomPositive(DType::kF32, {kTokens, top_k});
  const Tensor dweights = bench.Random(DType::kF32, {kTokens, top_k});
  bench.Run("permute" + of, [&] { Permute(s, tokens, source, rows); });
  bench.Run("unpermute" + of, [&] { Unpermute(s, rows, row_of, weights, tokens, out); });
  bench.Run("unpermute backward" + of,
            [&] { UnpermuteBackward(s, tokens, rows, row_of, weights, drows, dweights); });
  bench.Run("permute backward" + of, [&] { PermuteBackward(s, rows, row_of, out); });
  bench.Clear();
}

enum class LowPart { kNo, kYes };

void Routers(CudaBench& bench, DType type, int64_t experts, int64_t top_k, LowPart low) {
  Stream& s = bench.stream();
  const std::vector<float> ones(experts, 1.0f);
  const RouterInputs in = {
      .x = bench.Random(type, {kTokens, kHidden}),
      .weight = bench.Random(type, {experts, kHidden}),
      .weight_low = low == LowPart::kYes ? bench.Random(type, {experts, kHidden}) : Tensor(),
      .sigma = bench.RandomPositive(DType::kF32, {1}),
      .bias = Tensor(),
      .visible = bench.Given(DType::kF32, {experts}, ones.data())};
  const std::vector<int64_t> zeros(experts, 0);
  const RouterOutputs out = {.logits = bench.Random(DType::kF32, {kTokens, experts}),
                             .scores = bench.Random(DType::kF32, {kTokens, experts}),
                             .score_sum = bench.Random(DType::kF64, {experts}),
                             .experts = bench.RandomBelow(experts, {kTokens, top_k}),
                             .weights = bench.Random(DType::kF32, {kTokens, top_k}),
                             .counts = bench.Given(DType::kI64, {experts}, zeros.data()),
                             .num_off = bench.Given(DType::kI64, {1}, zeros.data())};
  bench.Run(Format("router %s%s, top %d of %d", NameOf(type), low == LowPart::kYes ? " and low part" : "",
                   static_cast<int>(top_k), static_cast<int>(experts)),
            [&] { RouterForward(s, RouterScoreSpec{}, in, out); });
  bench.Clear();
}

void RouterBackwards(CudaBench& bench, RouterKind kind, int64_t experts, int64_t top_k) {
  Stream& s = bench.stream();
  const int64_t rows = (48 << 20) / experts;
  const std::vector<float> ones(experts, 1.0f);
  const Tensor logits = bench.Random(DType::kF32, {rows, experts});
  const Tensor scores = bench.RandomPositive(DType::kF32, {rows, experts});
  const Tensor sigma = bench.RandomPositive(DType::kF32, {1}),
               visible = bench.Given(DType::kF32, {experts}, ones.data());
  const RouterScoreGrads grads = {.experts = bench.RandomBelow(experts, {rows, top_k}),
                                  .dchosen = bench.Random(DType::kF32, {rows, top_k}),
                                  .aux = bench.Random(DType::kF32, {experts}),
                                  .dlogits = bench.Random(DType::kF32, {rows, experts}),
                                  .dsigma = bench.Random(DType::kF32, {1}),
                                  .importance = bench.Random(DType::kF64, {experts})};
  bench.Run(Format("router backward %s, top %d of %d", NameOf(kind), static_cast<int>(top_k),
                   static_cast<int>(experts)),
            [&] { RouterScoresBackward(s, {.kind = kind}, logits, sigma, visible, scores, grads); });
  bench.Clear();
}

// 16 query heads, 4 key/value heads; the same number of tokens at every length.
void Attentions(CudaBench& bench, DType type, int64_t head_size, int64_t length) {
  Stream& s = bench.stream();
  const AttentionShape shape = {.num_sequences = kTokens / 4 / length,
                                .sequence_length = length,
                                .num_heads = 16,
                                .num_kv_heads = 4,
                                .head_size = head_size};
  const std::string of =
      Format(" %s, d %d, s %d", NameOf(type), static_cast<int>(head_size), static_cast<int>(length));
  const Tensor qkv = bench.Random(type, {shape.tokens(), shape.qkv_size()}),
               dqkv = bench.Random(type, {shape.tokens(), shape.qkv_size()});
  const Tensor out = bench.Random(type, {shape.tokens(), shape.out_size()}),
               dout = bench.Random(type, {shape.tokens(), shape.out_size()});
  const Tensor lse = bench.Random(DType::kF32, {shape.tokens(), shape.num_heads});
  bench.Run("attention forward" + of, [&] { AttentionForward(s, shape, qkv, out, lse); });
  AttentionForward(s, shape, qkv, out, lse);  // the backward needs its lse, measured or not
  bench.Run("attention backward" + of, [&] { AttentionBackward(s, shape, qkv, out, lse, dout, dqkv); });
  bench.Clear();
}

void Positions(CudaBench& bench, DType type) {
  Stream& s = bench.stream();
  const std::string of = std::string(" ") + NameOf(type);
  constexpr int64_t kLength = 4096, kHeadSize = 64;
  const AttentionShape shape = {.num_sequences = kTokens / kLength,
                                .sequence_length = kLength,
                                .num_heads = 16,
                                .num_kv_heads = 4,
                                .head_size = kHeadSize};
  const Tensor qkv = bench.Random(type, {kTokens, shape.qkv_size()});
  const Tensor cos = bench.Random(DType::kF32, {kLength, kHeadSize / 2}),
               sin = bench.Random(DType::kF32, {kLength, kHeadSize / 2});
  bench.Run("rope" + of, [&] { Rope(s, shape, cos, sin, RopeDirection::kForward, qkv); });
  bench.Clear();
  const AttentionShape one = {
      .num_sequences = 1, .sequence_length = 1, .num_heads = 16, .num_kv_heads = 8, .head_size = kHeadSize};
  const Tensor cache = bench.Random(type, {kTokens, 2 * one.num_kv_heads * kHeadSize});
  const Tensor row = bench.Random(type, {1, one.qkv_size()}), out = bench.Random(type, {1, one.out_size()});
  bench.Run("decode at 128 Ki positions" + of,
            [&] { AttentionDecode(s, one, row, cache, kTokens - 1, out); });
  bench.Clear();
}

void Ends(CudaBench& bench, DType type) {
  Stream& s = bench.stream();
  const std::string of = std::string(" ") + NameOf(type);
  const int64_t rows = 8192;
  const Tensor logits = bench.Random(type, {rows, kVocabulary}), losses = bench.Random(DType::kF64, {rows});
  const Tensor targets = bench.RandomBelow(kVocabulary, {rows});
  bench.Run("cross entropy" + of, [&] { CrossEntropy(s, logits, targets, 0, losses); });
  bench.Run("cross entropy with gradient" + of, [&] { CrossEntropy(s, logits, targets, 1, losses); });
  bench.Clear();
  const Tensor ids = bench.RandomBelow(kVocabulary, {kTokens}), same = bench.RandomBelow(1, {kTokens});
  const Tensor table = bench.Random(type, {kVocabulary, kHidden}),
               out = bench.Random(type, {kTokens, kHidden});
  const Tensor dtable = bench.Random(DType::kF32, {kVocabulary, kHidden});
  bench.Run("embedding forward" + of, [&] { EmbeddingForward(s, ids, table, out); });
  bench.Run("embedding backward" + of, [&] { EmbeddingBackward(s, ids, out, dtable); });
  bench.Run("embedding backward, one id" + of, [&] { EmbeddingBackward(s, same, out, dtable); });
  bench.Clear();
}

void Updates(CudaBench& bench, DType grad, DType copy) {
  Stream& s = bench.stream();
  constexpr int64_t kElements = 2 << 20;
  const Tensor squares = bench.RandomPositive(DType::kF64, {1});
  std::vector<AdamWTensors> group(48);
  for (AdamWTensors& t : group) {
    t = {.param = bench.Random(DType::kF32, {kElements}),
         .grad = bench.Random(grad, {kElements}),
         .m = bench.Random(DType::kF32, {kElements}),
         .v = bench.RandomPositive(DType::kF32, {kElements})};
    if (copy == DType::kBF16) t.copy = bench.Random(copy, {kElements});
  }
  const AdamWArgs args = {.lr = 1e-6, .weight_decay = 0.01, .max_grad_norm = 0.5, .grad_squares = squares};
  bench.Run(Format("adamw, 48 tensors, grad %s%s", NameOf(grad), copy == DType::kBF16 ? ", BF16 copy" : ""),
            [&] { AdamWGroup(s, args, group); });
  bench.Clear();
}

void Elements(CudaBench& bench, DType type) {
  Stream& s = bench.stream();
  const std::string of = std::string(" ") + NameOf(type);
  constexpr int64_t kElements = 256 << 20;
  const Tensor x = bench.Random(type, {kElements}), y = bench.Random(type, {kElements});
  const Tensor sum = bench.Random(DType::kF64, {1});
  bench.Run("sum" + of, [&] { AddSum(s, x, sum); });
  bench.Run("sum of squares" + of, [&] { AddSumOfSquares(s, x, sum); });
  bench.Run("copy" + of, [&] { Copy(s, x, y); });
  const Tensor other = bench.Random(type == DType::kF32 ? DType::kBF16 : DType::kF32, {kElements});
  bench.Run("copy and convert" + of, [&] { Copy(s, x, other); });
  bench.Run("fill" + of, [&] { Fill(s, y, 0.5); });
  bench.Clear();
}

void RunAll(CudaBench& bench) {
  BenchProducts(bench);
  for (const DType type : kTypes) {
    Norms(bench, type);
    Activations(bench, type);
    Ends(bench, type);
    Elements(bench, type);
    Positions(bench, type);
  }
  for (const int64_t length : {1024, 4096}) {
    for (const int64_t head_size : {64, 96}) Attentions(bench, DType::kBF16, head_size, length);
  }
  Routers(bench, DType::kBF16, 96, 1, LowPart::kNo);
  Routers(bench, DType::kBF16, 96, 1, LowPart::kYes);
  Routers(bench, DType::kBF16, 384, 4, LowPart::kNo);
  for (const RouterKind kind : kAllRouterKinds) {
    RouterBackwards(bench, kind, 96, 1);
  }
  RouterBackwards(bench, RouterKind::kNorm, 384, 4);
  for (const int64_t top_k : {1, 2}) {
    Permutes(bench, DType::kBF16, DType::kBF16, top_k);
    Permutes(bench, DType::kBF16, DType::kF32, top_k);
    Permutes(bench, DType::kF32, DType::kF32, top_k);
  }
  BenchExchanges(bench);
  Updates(bench, DType::kF32, DType::kF32);
  Updates(bench, DType::kF32, DType::kBF16);
  Updates(bench, DType::kBF16, DType::kBF16);
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  if (const std::string reason = unipool::WhyNoGpu(); !reason.empty()) {
    std::printf("cuda_kernel_bench: skipped, not measured: %s\n", reason.c_str());
    return 0;
  }
  try {
    unipool::CudaBench bench(argc > 1 ? argv[1] : "");
    unipool::RunAll(bench);
  } catch (const unipool::UserError& error) {
    std::fprintf(stderr, "cuda_kernel_bench: %s\n", error.what());
    return 2;
  }
}
