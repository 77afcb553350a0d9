// A warp per row: no barriers. A row's packs stay in registers between the sum and the output as long as the
// row has at most kHeld packs a lane; longer rows are read again, from the cache.
#include "kernels/cuda/fold_columns.h"
#include "kernels/cuda/launchers.h"
#include "kernels/rms_norm.h"

namespace unipool::cuda {
namespace {

constexpr int kForwardWarps = 8;  // rows of a block at a time
constexpr int kForwardHeld = 8, kBackwardHeld = 4;
// One block of the backward alone would have too little under way while its warps add up their rows.
constexpr int kMostBackwardWarps = 8, kBackwardBlocksPerSm = 2;

template <class T>
struct ForwardArguments {
  int64_t rows, width;
  const T *x, *weight;
  float eps;
  T* y;
  float* inv_rms;
};

// Loads kHeld packs of the row, from element `begin` on; those behind its end are not touched.
template <int kPack, int kHeld, class T>
__device__ inline void LoadPacks(const T* row, int64_t begin, int64_t width, Pack<T, kPack> (&packs)[kHeld]) {
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    const int64_t j = begin + (c * kWarp + static_cast<int>(threadIdx.x)) * kPack;
    if (j < width) packs[c] = LoadPack<kPack>(row + j);
  }
}

// Block (32, kForwardWarps).
template <class T, int kPack>
UNIPOOL_KERNEL((kWarp * kForwardWarps), ForwardKernel, ForwardArguments<T> a) {
  constexpr int kSegment = kForwardHeld * kWarp * kPack;
  const int64_t row = int64_t{blockIdx.x} * kForwardWarps + threadIdx.y;
  if (row >= a.rows) return;
  const int64_t at = row * a.width;
  Pack<T, kPack> x[kForwardHeld];
  float squares = 0;
  for (int64_t begin = 0; begin < a.width; begin += kSegment) {
    LoadPacks(a.x + at, begin, a.width, x);
#pragma unroll
    for (int c = 0; c < kForwardHeld; ++c) {
      if (begin + (c * kWarp + static_cast<int>(threadIdx.x)) * kPack >= a.width) continue;
#pragma unroll
      for (int e = 0; e < kPack; ++e) squares += ToFloat(x[c].value[e]) * ToFloat(x[c].value[e]);
    }
  }
  const float inv_rms = 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(a.width) + a.eps);
  if (threadIdx.x == 0) a.inv_rms[row] = inv_rms;
  for (int64_t begin = 0; begin < a.width; begin += kSegment) {
    if (a.width > kSegment) LoadPacks(a.x + at, begin, a.width, x);
#pragma unroll
    for (int c = 0; c < kForwardHeld; ++c) {
      const int64_t j = begin + (c * kWarp + static_cast<int>(threadIdx.x)) * kPack;
      if (j >= a.width) continue;
      const Pack<T, kPack> weight = LoadPack<kPack>(a.weight + j);
#pragma unroll
      for (int e = 0; e < kPack; ++e)
        x[c].value[e] = FromFloat<T>(ToFloat(x[c].value[e]) * inv_rms * ToFloat(weight.value[e]));
      StorePack(a.y + at + j, x[c]);
    }
  }
}

template <class T>
struct BackwardArguments {
  int64_t rows, width;
  const T *x, *weight;
  const float* inv_rms;
  const T *dy, *residual_grad;
  T* dx;
  float* partial;  // [blocks, D]: the blocks' shares of dweight
};

// A warp's sums of dweight, [D] rounded up to whole segments of kWarp packs. In a segment element e of all
// lanes' packs lies together, so that the lanes of a warp fall into different banks.
template <int kPack>
__device__ inline int64_t SumAt(int64_t segment, int lane, int e) {
  return (segment * kPack + e) * kWarp + lane;
}
template <int kPack>
__host__ __device__ inline int64_t PaddedWidth(int64_t width) {
  constexpr int64_t kSegment = kWarp * kPack;
  return (width + kSegment - 1) / kSegment * kSegment;
}

// partial[j] = the sum over the block's warps, whole packs a lane.
template <int kPack>
__device__ inline void FoldWarps(int64_t width, const float* sums, float* partial) {
  const int lane = threadIdx.x, num_warps = blockDim.y;
  const int64_t padded = PaddedWidth<kPack>(width), num_segments = padded / (kWarp * kPack);
  for (int64_t segment = threadIdx.y; segment < num_segments; segment += num_warps) {
    const int64_t j = (segment * kWarp + lane) * kPack;
    if (j >= width) continue;
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      float sum = 0;
      for (int w = 0; w < num_warps; ++w) sum += sums[w * padded + SumAt<kPack>(segment, lane, e)];
      partial[j + e] = sum;
    }
  }
}

// Block (32, warps); rows are dealt to warps in turn. Each lane sums its own columns of dweight in shared
// memory [warps, PaddedWidth], so that no order is left to chance.
template <class T, int kPack>
UNIPOOL_KERNEL((kWarp * kMostBackwardWarps, kBackwardBlocksPerSm), BackwardKernel, BackwardArguments<T> a) {
  constexpr int kSegment = kBackwardHeld * kWarp * kPack;
  const int lane = threadIdx.x, warp = threadIdx.y, num_warps = blockDim.y;
  float* sums = DynamicShared<float>();
  float* own = sums + warp * PaddedWidth<kPack>(a.width);
  for (int64_t i = lane; i < PaddedWidth<kPack>(a.width); i += kWarp) own[i] = 0;  // the lane's own alone
  const int64_t stride = int64_t{gridDim.x} * num_warps;
  for (int64_t row = int64_t{blockIdx.x} * num_warps + warp; row < a.rows; row += stride) {
    const int64_t at = row * a.width;
    const float inv_rms = a.inv_rms[row];
    Pack<T, kPack> x[kBackwardHeld], dy[kBackwardHeld];
    float dot = 0;
    for (int64_t begin = 0; begin < a.width; begin += kSegment) {
      LoadPacks(a.x + at, begin, a.width, x);
      LoadPacks(a.dy + at, begin, a.width, dy);
#pragma unroll
      for (int c = 0; c < kBackwardHeld; ++c) {
        const int64_t j = begin + (c * kWarp + lane) * kPack;
        if (j >= a.width) continue;
        const Pack<T, kPack> weight = LoadPack<kPack>(a.weight + j);
        float* segment_sums = own + SumAt<kPack>(begin / (kWarp * kPack) + c, lane, 0);
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          const float product = ToFloat(dy[c].value[e]) * ToFloat(x[c].value[e]);
          dot += ToFloat(weight.value[e]) * product;
          segment_sums[e * kWarp] += product * inv_rms;
        }
      }
    }
    const float x_factor = inv_rms * inv_rms * inv_rms * WarpSum(dot) / static_cast<float>(a.width);
    for (int64_t begin = 0; begin < a.width; begin += kSegment) {
      if (a.width > kSegment) {
        LoadPacks(a.x + at, begin, a.width, x);
        LoadPacks(a.dy + at, begin, a.width, dy);
      }
      Pack<T, kPack> residual[kBackwardHeld];
      LoadPacks(a.residual_grad + at, begin, a.width, residual);
#pragma unroll
      for (int c = 0; c < kBackwardHeld; ++c) {
        const int64_t j = begin + (c * kWarp + lane) * kPack;
        if (j >= a.width) continue;
        const Pack<T, kPack> weight = LoadPack<kPack>(a.weight + j);
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          const float through = ToFloat(weight.value[e]) * ToFloat(dy[c].value[e]) * inv_rms;
          residual[c].value[e] =
              FromFloat<T>(ToFloat(residual[c].value[e]) + (through - ToFloat(x[c].value[e]) * x_factor));
        }
        StorePack(a.dx + at + j, residual[c]);
      }
    }
  }
  __syncthreads();
  FoldWarps<kPack>(a.width, sums, a.partial + blockIdx.x * a.width);
}

// Warps of a backward block: as many as keep their sums within kMostSharedBytes.
constexpr int64_t kMostSharedBytes = 96 << 10;

int64_t BackwardWarps(int64_t width, int64_t padded_width) {
  const int64_t warps =
      std::min<int64_t>(kMostBackwardWarps, kMostSharedBytes / (padded_width * int64_t{sizeof(float)}));
  CHECK_GT(warps, 0) << "RmsNormBackward on CUDA takes rows of at most "
                     << kMostSharedBytes / int64_t{sizeof(float)} << " elements, these have " << width;
  return warps;
}

template <class T, int kPack>
void LaunchBackward(Stream& stream, const BackwardArguments<T>& arguments, int64_t num_partials,
                    int64_t warps) {
  Launch("RmsNormBackward", &BackwardKernel<T, kPack>,
         {.grid = static_cast<unsigned>(num_partials),
          .block = dim3(kWarp, static_cast<unsigned>(warps)),
          .shared_bytes = warps * PaddedWidth<kPack>(arguments.width) * int64_t{sizeof(float)}},
         stream, arguments);
}

}  // namespace

void RmsNormForward(Stream& stream, const Tensor& x, const Tensor& weight, double eps, const Tensor& y,
                    const Tensor& inv_rms) {
  DispatchDevice("RmsNormForward", x.dtype, [&]<class T>() {
    const int64_t rows = x.rows(), width = x.dim(1);
    const ForwardArguments<T> arguments = {
        rows, width, x.as<T>(), weight.as<T>(), static_cast<float>(eps), y.as<T>(), inv_rms.as<float>()};
    const LaunchShape shape = {.grid = static_cast<unsigned>(CeilDiv(rows, kForwardWarps)),
                               .block = dim3(kWarp, kForwardWarps)};
    const bool packs = RowsAllowPacks(width, {&x, &weight, &y});
    Launch("RmsNormForward", packs ? &ForwardKernel<T, kPackOf16<T>> : &ForwardKernel<T, 1>, shape, stream,
           arguments);
  });
}

void RmsNormBackward(Stream& stream, const Tensor& x, const Tensor& weight, const Tensor& inv_rms,
                     const Tensor& dy, const Tensor& residual_grad, const Tensor& dx, const Tensor& dweight) {
  const int64_t rows = x.rows(), width = x.dim(1);
  if (rows == 0 || width == 0) return;
  // Of the widest packs, so that neither the alignment of arrays nor their type changes the order of sums.
  const int64_t warps = BackwardWarps(width, PaddedWidth<kPackOf16<Bf16>>(width));
  const int64_t num_partials = std::min(kMostNormPartials, CeilDiv(rows, warps));
  float* partial =
      static_cast<float*>(stream.Scratch(RmsNormBackwardScratchBytes(Device::kCuda, rows, width)));
  DispatchDevice("RmsNormBackward", x.dtype, [&]<class T>() {
    const BackwardArguments<T> arguments = {
        rows,       width,  x.as<T>(), weight.as<T>(), inv_rms.as<float>(), dy.as<T>(), residual_grad.as<T>(),
        dx.as<T>(), partial};
    if (RowsAllowPacks(width, {&x, &weight, &dy, &residual_grad, &dx})) {
      LaunchBackward<T, kPackOf16<T>>(stream, arguments, num_partials, warps);
    } else {
      LaunchBackward<T, 1>(stream, arguments, num_partials, warps);
    }
  });
  FoldColumns("RmsNormBackward fold", stream, num_partials, width, partial, dweight.as<float>());
}

}  // namespace unipool::cuda
