// A warp per row or token: no barriers, and a row's packs are all under way before the first is used.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

constexpr int kWarps = 8;  // rows of a block
constexpr int kMoveHeld = 8, kCombineHeld = 4, kBackwardHeld = 4;

__device__ inline int64_t WarpIndex() {
  return int64_t{blockIdx.x} * kWarps + threadIdx.y;
}

LaunchShape WarpPerRow(int64_t rows) {
  return {.grid = static_cast<unsigned>(CeilDiv(rows, kWarps)), .block = dim3(kWarp, kWarps)};
}

template <class From, class To>
struct MoveArguments {
  int64_t rows, width, num_sources;
  const From* src;
  const int32_t* index;
  To* dst;
};

// Block (32, kWarps), as all here.
template <class From, class To, int kPack>
UNIPOOL_KERNEL((kWarp * kWarps), MoveKernel, MoveArguments<From, To> a) {
  const int64_t i = WarpIndex();
  if (i >= a.rows) return;
  const int64_t source = a.index[i];
  DeviceCheck(source >= 0 && source < a.num_sources, "an index names a row");
  const From* src = a.src + source * a.width;
  To* dst = a.dst + i * a.width;
  Pack<From, kPack> packs[kMoveHeld];
  for (int64_t begin = 0; begin < a.width; begin += kMoveHeld * kWarp * kPack) {
    LoadRow(src, begin, a.width, packs);
#pragma unroll
    for (int c = 0; c < kMoveHeld; ++c) {
      const int64_t j = PackAt<kPack>(begin, c);
      if (j < a.width) StorePack(dst + j, ConvertPack<To>(packs[c]));
    }
  }
}

template <class Row, class Token>
struct UnpermuteArguments {
  int64_t num_tokens, top_k, width, num_rows;
  const Row* rows;
  const int32_t* row_of;
  const float* weights;   // null: all 1
  const Token* residual;  // null: all 0
  Token* out;
};

// The sum over k is kept in F32 and meets the residual at the end, which has been under way since the start.
template <class Row, class Token, int kPack>
UNIPOOL_KERNEL((kWarp * kWarps), UnpermuteKernel, UnpermuteArguments<Row, Token> a) {
  const int64_t token = WarpIndex();
  if (token >= a.num_tokens) return;
  const int64_t at = token * a.width;
  bool holds = true;  // checked once at the end: a call within the loop would cost registers there
  for (int64_t begin = 0; begin < a.width; begin += kCombineHeld * kWarp * kPack) {
    Pack<Token, kPack> residual[kCombineHeld] = {};
    float sum[kCombineHeld][kPack] = {};
    if (a.residual) LoadRow(a.residual + at, begin, a.width, residual);
    for (int64_t choice = token * a.top_k; choice < (token + 1) * a.top_k; ++choice) {
      const int64_t row = a.row_of[choice];
      holds &= row >= -1 && row < a.num_rows;
      if (row < 0 || row >= a.num_rows) continue;
      const float weight = a.weights ? a.weights[choice] : 1.0f;
      Pack<Row, kPack> packs[kCombineHeld];
      LoadRow(a.rows + row * a.width, begin, a.width, packs);
#pragma unroll
      for (int c = 0; c < kCombineHeld; ++c) {
        if (PackAt<kPack>(begin, c) >= a.width) continue;
#pragma unroll
        for (int e = 0; e < kPack; ++e) sum[c][e] = fmaf(weight, ToFloat(packs[c].value[e]), sum[c][e]);
      }
    }
#pragma unroll
    for (int c = 0; c < kCombineHeld; ++c) {
      const int64_t j = PackAt<kPack>(begin, c);
      if (j >= a.width) continue;
#pragma unroll
      for (int e = 0; e < kPack; ++e)
        residual[c].value[e] = FromFloat<Token>(ToFloat(residual[c].value[e]) + sum[c][e]);
      StorePack(a.out + at + j, residual[c]);
    }
  }
  DeviceCheck(holds, "row_of names a row or is -1");
}

template <class Row, class Token>
struct BackwardArguments {
  int64_t num_tokens, top_k, width, num_rows;
  const Token* dout;
  const Row* rows;
  const int32_t* row_of;
  const float* weights;
  Row* drows;
  float* dweights;
};

// dout stays in registers for all k where a row is at most kBackwardHeld packs a lane; longer rows read it
// again for each k, from the cache.
template <class Row, class Token, int kPack>
UNIPOOL_KERNEL((kWarp * kWarps, 2), BackwardKernel, BackwardArguments<Row, Token> a) {
  constexpr int kSegment = kBackwardHeld * kWarp * kPack;
  const int64_t token = WarpIndex();
  if (token >= a.num_tokens) return;
  const Token* dout_row = a.dout + token * a.width;
  Pack<Token, kPack> dout[kBackwardHeld];
  LoadRow(dout_row, 0, a.width, dout);
  for (int64_t choice = token * a.top_k; choice < (token + 1) * a.top_k; ++choice) {
    const int64_t row = a.row_of[choice];
    float dot = 0;
    if (row != -1) {
      DeviceCheck(row >= 0 && row < a.num_rows, "row_of names a row or is -1");
      const float weight = a.weights[choice];
      for (int64_t begin = 0; begin < a.width; begin += kSegment) {
        Pack<Row, kPack> packs[kBackwardHeld];
        LoadRow(a.rows + row * a.width, begin, a.width, packs);
        if (a.width > kSegment) LoadRow(dout_row, begin, a.width, dout);
#pragma unroll
        for (int c = 0; c < kBackwardHeld; ++c) {
          const int64_t j = PackAt<kPack>(begin, c);
          if (j >= a.width) continue;
#pragma unroll
          for (int e = 0; e < kPack; ++e) {
            const float d = ToFloat(dout[c].value[e]);
            dot = fmaf(d, ToFloat(packs[c].value[e]), dot);
            packs[c].value[e] = FromFloat<Row>(weight * d);
          }
          StorePack(a.drows + row * a.width + j, packs[c]);
        }
      }
    }
    dot = WarpSum(dot);
    if (threadIdx.x == 0) a.dweights[choice] = dot;
  }
}

}  // namespace

void GatherRows(Stream& stream, const Tensor& src, const Tensor& index, const Tensor& dst) {
  DispatchDevicePair("GatherRows", src.dtype, dst.dtype, [&]<class From, class To>() {
    constexpr int kPack = kPackOf<From, To>;
    const int64_t rows = index.rows(), width = src.dim(1);
    const MoveArguments<From, To> arguments = {
        rows, width, src.rows(), src.as<From>(), index.as<int32_t>(), dst.as<To>()};
    const bool packs = RowsAllowPacksOf(kPack, width, {&src, &dst});
    Launch("GatherRows", packs ? &MoveKernel<From, To, kPack> : &MoveKernel<From, To, 1>, WarpPerRow(rows),
           stream, arguments);
  });
}

void Unpermute(Stream& stream, const Tensor& rows, const Tensor& row_of, const Tensor& weights,
               const Tensor& residual, const Tensor& out) {
  DispatchDevicePair("Unpermute", rows.dtype, out.dtype, [&]<class Row, class Token>() {
    constexpr int kPack = kPackOf<Row, Token>;
    const UnpermuteArguments<Row, Token> arguments = {
        .num_tokens = out.rows(),
        .top_k = row_of.dim(1),
        .width = out.dim(1),
        .num_rows = rows.rows(),
        .rows = rows.as<Row>(),
        .row_of = row_of.as<int32_t>(),
        .weights = weights.empty() ? nullptr : weights.as<float>(),
        .residual = residual.empty() ? nullptr : residual.as<Token>(),
        .out = out.as<Token>()};
    const bool packs = RowsAllowPacksOf(kPack, out.dim(1), {&rows, &residual, &out});
    Launch("Unpermute", packs ? &UnpermuteKernel<Row, Token, kPack> : &UnpermuteKernel<Row, Token, 1>,
           WarpPerRow(out.rows()), stream, arguments);
  });
}

void UnpermuteBackward(Stream& stream, const Tensor& dout, const Tensor& rows, const Tensor& row_of,
                       const Tensor& weights, const Tensor& drows, const Tensor& dweights) {
  DispatchDevicePair("UnpermuteBackward", rows.dtype, dout.dtype, [&]<class Row, class Token>() {
    constexpr int kPack = kPackOf<Row, Token>;
    const BackwardArguments<Row, Token> arguments = {.num_tokens = dout.rows(),
                                                     .top_k = row_of.dim(1),
                                                     .width = dout.dim(1),
                                                     .num_rows = rows.rows(),
                                                     .dout = dout.as<Token>(),
                                                     .rows = rows.as<Row>(),
                                                     .row_of = row_of.as<int32_t>(),
                                                     .weights = weights.as<float>(),
                                                     .drows = drows.as<Row>(),
                                                     .dweights = dweights.as<float>()};
    const bool packs = RowsAllowPacksOf(kPack, dout.dim(1), {&dout, &rows, &drows});
    Launch("UnpermuteBackward", packs ? &BackwardKernel<Row, Token, kPack> : &BackwardKernel<Row, Token, 1>,
           WarpPerRow(dout.rows()), stream, arguments);
  });
}

}  // namespace unipool::cuda
