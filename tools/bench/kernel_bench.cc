// Times every kernel on one thread (processor time, the best of many calls) and prints a line a case:
// microseconds, GFLOP/s and GB/s (the arithmetic and the bytes the kernel declares), and the share of the
// machine: its floor (the longer of arithmetic at sgemm peak and bytes at copy bandwidth) over its time.
// Above 100 % means that the data stayed in a cache.
//   kernel_bench [name]     only cases whose name contains `name`
// Sizes: T=2048 tokens, D=256, 8/4 heads, F=1024, 64 experts, top-1, sequences of 256, V=256.
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/copy_segments.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/host_values.h"
#include "kernels/permute.h"
#include "kernels/rank_sum.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/router_scores.h"
#include "kernels/row_order.h"
#include "kernels/swiglu.h"
#include "kernels/top_k.h"
#include "runtime/random.h"
#include "tools/bench/machine_peaks.h"
#include "tools/bench/thread_time.h"

namespace unipool {
namespace {

constexpr int64_t kTokens = 2048, kHidden = 256, kWidth = 1024, kExperts = 64, kVocab = 256;
constexpr double kSecondsPerCase = 0.3;

class Bench {
 public:
  explicit Bench(const char* filter) : filter_(filter), peaks_(MeasureMachinePeaks()) {
    std::printf("sgemm peak %.1f GFLOP/s, copy %.1f GB/s, one thread\n", peaks_.flops_per_second * 1e-9,
                peaks_.bytes_per_second * 1e-9);
    std::printf("%-34s %10s %9s %8s %9s\n", "case", "us", "GFLOP/s", "GB/s", "of floor");
  }
  Stream& stream() { return stream_; }

  // Uniform in [-1, 1).
  Tensor Random(std::initializer_list<int64_t> shape, DType dtype = DType::kF32) {
    const Tensor tensor = Zeros(shape, dtype);
    for (int64_t i = 0; i < tensor.size(); ++i) {
      const double value = 2 * RandomUniform(buffers_.size(), i) - 1;
      if (dtype == DType::kF32) tensor.as<float>()[i] = static_cast<float>(value);
      if (dtype == DType::kF64) tensor.as<double>()[i] = value;
    }
    return tensor;
  }
  Tensor Ones(std::initializer_list<int64_t> shape) {
    const Tensor tensor = Zeros(shape);
    std::fill_n(tensor.as<float>(), tensor.size(), 1.0f);
    return tensor;
  }
  Tensor Zeros(std::initializer_list<int64_t> shape, DType dtype = DType::kF32) {
    const Tensor wanted(nullptr, dtype, shape);
    buffers_.push_back(Buffer::Allocate(meter_, MemoryKind::kScratch, wanted.bytes()));
    return buffers_.back().View(dtype, shape);
  }
  // A permutation-like list of n numbers below `limit`.
  Tensor Indices(std::initializer_list<int64_t> shape, int64_t limit) {
    const Tensor tensor = Zeros(shape, DType::kI32);
    for (int64_t i = 0; i < tensor.size(); ++i) {
      tensor.as<int32_t>()[i] = static_cast<int32_t>(RandomPermutation(7, limit, i % limit));
    }
    return tensor;
  }

  void Run(const char* name, const std::function<void()>& kernel) {
    if (!std::strstr(name, filter_)) return;
    kernel();
    Profile profile(peaks_.flops_per_second, peaks_.bytes_per_second);
    stream_.set_profile(&profile);
    double best = 1e30;
    for (double total = 0; total < kSecondsPerCase;) {
      profile.Reset();
      const double start = ThreadSeconds();
      kernel();
      const double seconds = ThreadSeconds() - start;
      total += seconds;
      best = std::min(best, seconds);
    }
    const OpCost cost = profile.Total();
    stream_.set_profile(nullptr);
    std::printf("%-34s %10.1f %9.1f %8.1f %8.0f%%\n", name, best * 1e6, cost.flops / best * 1e-9,
                cost.bytes / best * 1e-9, 100 * cost.floor_seconds / best);
    std::fflush(stdout);
  }

 private:
  const char* filter_;
  MachinePeaks peaks_;
  MemoryMeter meter_;
  Stream stream_{meter_};
  std::vector<Buffer> buffers_;
};

void DenseProducts(Bench& bench) {
  Stream& stream = bench.stream();
  const auto layer = [&](const char* name, int64_t in, int64_t out) {
    const Tensor x = bench.Random({kTokens, in}), w = bench.Random({out, in}),
                 y = bench.Random({kTokens, out});
    const Tensor dx = bench.Zeros({kTokens, in}), dw = bench.Zeros({out, in});
    bench.Run(Format("gemm %s forward", name).c_str(),
              [&] { Gemm(stream, Trans::kNo, x, Trans::kYes, w, 0, y); });
    bench.Run(Format("gemm %s input grad", name).c_str(),
              [&] { Gemm(stream, Trans::kNo, y, Trans::kNo, w, 0, dx); });
    bench.Run(Format("gemm %s weight grad", name).c_str(),
              [&] { Gemm(stream, Trans::kYes, y, Trans::kNo, x, 1, dw); });
  };
  layer("256x512", kHidden, 2 * kHidden);
  layer("256x256", kHidden, kHidden);
  layer("router 256x64", kHidden, kExperts);
}

void ExpertProducts(Bench& bench, int64_t rows) {
  Stream& stream = bench.stream();
  std::vector<int64_t> offsets(kExperts + 1);
  for (int64_t e = 0; e <= kExperts; ++e) offsets[e] = e * rows;
  const int64_t all = offsets.back();
  const auto layer = [&](const char* name, int64_t in, int64_t out) {
    const Tensor w = bench.Random({kExperts, out, in}), dw = bench.Zeros({kExperts, out, in});
    const Tensor x = bench.Random({all, in}), y = bench.Random({all, out}), dx = bench.Zeros({all, in});
    std::vector<uint8_t> has_grad(kExperts);
    const auto title = [&](const char* what) {
      return Format("experts %s %s, %d rows", name, what, static_cast<int>(rows));
    };
    bench.Run(title("forward").c_str(), [&] { GroupedGemmForward(stream, offsets, x, w, y); });
    bench.Run(title("dx").c_str(), [&] { GroupedGemmInputGrad(stream, offsets, y, w, dx); });
    bench.Run(title("dw first").c_str(), [&] {
      std::fill(has_grad.begin(), has_grad.end(), 0);
      GroupedGemmWeightGrad(stream, offsets, y, x, dw, has_grad);
    });
    bench.Run(title("dw added").c_str(), [&] { GroupedGemmWeightGrad(stream, offsets, y, x, dw, has_grad); });
  };
  layer("gate_up", kHidden, 2 * kWidth);
  layer("down", kWidth, kHidden);
}

// Weight gradients of several slots of 32 rows an expert, at once.
void ExpertSlots(Bench& bench, int slots) {
  Stream& stream = bench.stream();
  constexpr int64_t kRows = 32, kAll = kRows * kExperts;
  std::vector<std::vector<int64_t>> offsets(slots);
  for (int s = 0; s < slots; ++s) {
    for (int64_t e = 0; e <= kExperts; ++e) offsets[s].push_back(s * kAll + e * kRows);
  }
  const std::vector<GroupOffsets> all(offsets.begin(), offsets.end());
  const auto layer = [&](const char* name, int64_t in, int64_t out) {
    const Tensor dw = bench.Zeros({kExperts, out, in}), x = bench.Random({slots * kAll, in}),
                 y = bench.Random({slots * kAll, out});
    std::vector<uint8_t> has_grad(kExperts);
    const auto title = [&](const char* what) {
      return Format("experts %s dw %s, %d slots of 32", name, what, slots);
    };
    bench.Run(title("first").c_str(), [&] {
      std::fill(has_grad.begin(), has_grad.end(), 0);
      GroupedGemmWeightGradOfSlots(stream, all, y, x, dw, has_grad);
    });
    bench.Run(title("added").c_str(), [&] { GroupedGemmWeightGradOfSlots(stream, all, y, x, dw, has_grad); });
  };
  layer("gate_up", kHidden, 2 * kWidth);
  layer("down", kWidth, kHidden);
}

void Attention(Bench& bench, const AttentionShape& shape) {
  Stream& stream = bench.stream();
  const int64_t t = shape.tokens(), s = shape.sequence_length, half = shape.head_size / 2;
  const Tensor qkv = bench.Random({t, shape.qkv_size()}), dqkv = bench.Zeros({t, shape.qkv_size()});
  const Tensor out = bench.Zeros({t, shape.out_size()}), dout = bench.Random({t, shape.out_size()});
  const Tensor lse = bench.Zeros({t, shape.num_heads});
  const Tensor cos = bench.Zeros({s, half}), sin = bench.Zeros({s, half});
  const Tensor cache = bench.Random({s, 2 * shape.num_kv_heads * shape.head_size});
  FillRopeTables(1e6, cos, sin);
  const auto title = [&](const char* what) {
    return Format("%s s=%d d=%d", what, static_cast<int>(s), static_cast<int>(shape.head_size));
  };
  bench.Run(title("rope").c_str(), [&] { Rope(stream, shape, cos, sin, RopeDirection::kForward, qkv); });
  bench.Run(title("attention forward").c_str(), [&] { AttentionForward(stream, shape, qkv, out, lse); });
  bench.Run(title("attention backward").c_str(),
            [&] { AttentionBackward(stream, shape, qkv, out, lse, dout, dqkv); });
  bench.Run(title("attention decode").c_str(),
            [&] { AttentionDecode(stream, shape, qkv.Rows(0, 1), cache, s - 1, out.Rows(0, 1)); });
}

void Routing(Bench& bench) {
  Stream& stream = bench.stream();
  const RouterScoreSpec spec;
  const Tensor logits = bench.Random({kTokens, kExperts}), scores = bench.Zeros({kTokens, kExperts});
  const Tensor sigma = bench.Ones({1}), visible = bench.Ones({kExperts});
  const Tensor sums = bench.Zeros({kExperts}, DType::kF64), counts = bench.Zeros({kExperts}, DType::kI64);
  const Tensor experts = bench.Zeros({kTokens, 1}, DType::kI32), weights = bench.Zeros({kTokens, 1});
  bench.Run("router scores forward",
            [&] { RouterScoresForward(stream, spec, logits, sigma, visible, scores, sums); });
  bench.Run("top-k", [&] { TopK(stream, scores, {}, visible, experts, weights, counts); });
  RouterScoreGrads grads;
  grads.experts = experts;
  grads.dchosen = bench.Random({kTokens, 1});
  grads.aux = bench.Random({kExperts});
  grads.dlogits = bench.Zeros({kTokens, kExperts});
  grads.dsigma = bench.Zeros({1});
  grads.importance = bench.Zeros({kExperts}, DType::kF64);
  bench.Run("router scores backward",
            [&] { RouterScoresBackward(stream, spec, logits, sigma, visible, scores, grads); });

  const Tensor x = bench.Random({kTokens, kHidden}), y = bench.Zeros({kTokens, kHidden});
  const Tensor residual = bench.Random({kTokens, kHidden}), dweights = bench.Zeros({kTokens, 1});
  const Tensor index = bench.Indices({kTokens}, kTokens), row_of = index.Reshape({kTokens, 1});
  bench.Run("permute", [&] { Permute(stream, x, index, y); });
  bench.Run("unpermute", [&] { Unpermute(stream, x, row_of, weights, residual, y); });
  bench.Run("unpermute backward",
            [&] { UnpermuteBackward(stream, residual, x, row_of, weights, y, dweights); });
  bench.Run("permute backward", [&] { PermuteBackward(stream, x, row_of, y); });
}

void Exchanges(Bench& bench) {
  Stream& stream = bench.stream();
  const Tensor experts = bench.Indices({kTokens, 1}, kExperts),
               send_index = bench.Indices({kExperts}, kExperts);
  const RowOrder order = {.row_of = bench.Zeros({kTokens, 1}, DType::kI32),
                          .token_of = bench.Zeros({kTokens}, DType::kI32),
                          .rows_of_expert = bench.Zeros({kExperts}, DType::kI32)};
  const Tensor weights = bench.Ones({kTokens, 1});
  bench.Run("order rows", [&] { OrderRows(stream, experts, weights, send_index, order); });
  const Tensor x = bench.Random({8 * kTokens, kHidden}), y = bench.Zeros({kTokens, kHidden});
  std::vector<Segment> segments;
  for (int64_t e = 0; e < kExperts; ++e) {
    const Tensor from = x.Rows(e * 8 * kTokens / kExperts, kTokens / kExperts),
                 to = y.Rows(e * kTokens / kExperts, kTokens / kExperts);
    segments.push_back({from.data, to.data, to.bytes()});
  }
  bench.Run("segments", [&] { CopySegments(stream, segments); });
  bench.Run("sum of 8 ranks' parts", [&] { SumInRankOrder(stream, y, x.data, y.bytes(), 3, 8); });
  const std::vector<double> values(768, 0.5);
  bench.Run("768 values of the host", [&] { SetValues(stream, values, y.Reshape({y.size()}).Rows(0, 768)); });
}

void RowKernels(Bench& bench) {
  Stream& stream = bench.stream();
  const Tensor x = bench.Random({kTokens, kHidden}), y = bench.Zeros({kTokens, kHidden}),
               weight = bench.Ones({kHidden});
  const Tensor inv_rms = bench.Zeros({kTokens}), dweight = bench.Zeros({kHidden}),
               dy = bench.Random({kTokens, kHidden});
  bench.Run("rms norm forward", [&] { RmsNormForward(stream, x, weight, 1e-5, y, inv_rms); });
  bench.Run("rms norm backward", [&] { RmsNormBackward(stream, x, weight, inv_rms, dy, dy, y, dweight); });

  const Tensor gate_up = bench.Random({kTokens, 2 * kWidth}), dgate_up = bench.Zeros({kTokens, 2 * kWidth});
  const Tensor activation = bench.Zeros({kTokens, kWidth}), dactivation = bench.Random({kTokens, kWidth});
  bench.Run("swiglu forward", [&] { SwigluForward(stream, gate_up, activation); });
  bench.Run("swiglu backward", [&] { SwigluBackward(stream, gate_up, dactivation, dgate_up, activation); });

  const Tensor tokens = bench.Indices({kTokens}, kVocab), table = bench.Random({kVocab, kHidden});
  const Tensor logits = bench.Random({kTokens, kVocab}), losses = bench.Zeros({kTokens}, DType::kF64);
  bench.Run("embedding forward", [&] { EmbeddingForward(stream, tokens, table, y); });
  bench.Run("embedding backward", [&] { EmbeddingBackward(stream, tokens, dy, table); });
  bench.Run("cross entropy", [&] { CrossEntropy(stream, logits, tokens, 0, losses); });
  bench.Run("cross entropy with gradient", [&] { CrossEntropy(stream, logits, tokens, 1e-3, losses); });
}

void LargeArrays(Bench& bench) {
  Stream& stream = bench.stream();
  const int64_t n = 32 << 20;  // 128 MiB each: beyond the caches
  const Tensor p = bench.Random({n}), g = bench.Random({n}), m = bench.Zeros({n}), v = bench.Zeros({n});
  AdamWArgs args;
  args.lr = 1e-6;
  bench.Run("adamw", [&] { AdamW(stream, args, p, g, m, v); });
  const Tensor squares = bench.Zeros({1}, DType::kF64);
  bench.Run("sum of squares", [&] { AddSumOfSquares(stream, g, squares); });
  bench.Run("fill", [&] { Fill(stream, v, 0); });
  bench.Run("copy", [&] { Copy(stream, g, v); });
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  using namespace unipool;
  Bench bench(argc > 1 ? argv[1] : "");
  DenseProducts(bench);
  for (int64_t rows : {8, 32, 128}) ExpertProducts(bench, rows);
  for (int slots : {4, 8}) ExpertSlots(bench, slots);
  Attention(bench, {8, 256, 8, 4, 32});
  Attention(bench, {2, 1024, 16, 4, 64});
  Routing(bench);
  Exchanges(bench);
  RowKernels(bench);
  LargeArrays(bench);
}
