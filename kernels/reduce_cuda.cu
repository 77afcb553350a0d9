// Arrays in packs of 16 bytes, kInFlight loads a thread under way; what is left of a last pack moves one by
// one, and so do arrays that do not begin at 16 bytes.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"
#include "kernels/reduce.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 256, kInFlight = 4, kSumInFlight = 8;

template <int kPack>
constexpr int64_t kBlockElements = int64_t{kThreads} * kInFlight* kPack;

// The first element of this thread's pack c.
template <int kPack>
__device__ inline int64_t ElementAt(int c) {
  return blockIdx.x * kBlockElements<kPack> + (c * kThreads + static_cast<int>(threadIdx.x)) * kPack;
}

// y = x. Block kThreads, kBlockElements a block.
template <class From, class To, int kPack>
UNIPOOL_KERNEL((kThreads), MoveKernel, int64_t n, const From* x, To* y) {
  Pack<From, kPack> from[kInFlight];
#pragma unroll
  for (int c = 0; c < kInFlight; ++c) {
    const int64_t j = ElementAt<kPack>(c);
    if (j + kPack > n) continue;
    from[c] = LoadPack<kPack>(x + j);
  }
#pragma unroll
  for (int c = 0; c < kInFlight; ++c) {
    const int64_t j = ElementAt<kPack>(c);
    if (j + kPack > n) continue;
    Pack<To, kPack> to;
#pragma unroll
    for (int e = 0; e < kPack; ++e) to.value[e] = Convert<To>(from[c].value[e]);
    StorePack(y + j, to);
  }
  const int64_t last = n / kPack * kPack + threadIdx.x;
  if (blockIdx.x == 0 && last < n) y[last] = Convert<To>(x[last]);
}

template <class Raw, int kPack>
UNIPOOL_KERNEL((kThreads), FillKernel, int64_t n, Raw value, Raw* x) {
  Pack<Raw, kPack> pack;
#pragma unroll
  for (int e = 0; e < kPack; ++e) pack.value[e] = value;
#pragma unroll
  for (int c = 0; c < kInFlight; ++c) {
    const int64_t j = ElementAt<kPack>(c);
    if (j + kPack <= n) StorePack(x + j, pack);
  }
  const int64_t last = n / kPack * kPack + threadIdx.x;
  if (blockIdx.x == 0 && last < n) x[last] = value;
}

UNIPOOL_KERNEL((kThreads), RaiseKernel, int64_t n, float least, float* x) {
  const int64_t j = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (j < n && x[j] < least) x[j] = least;
}

bool PacksAllowed(int pack, std::initializer_list<const Tensor*> tensors) {
  return RowsAllowPacksOf(pack, 0, tensors);  // a remainder is no obstacle here
}

template <class From, class To>
void Move(Stream& stream, const Tensor& x, const Tensor& y) {
  constexpr int kPack = kPackOf<From, To>;
  const int64_t n = x.size();
  const bool packs = PacksAllowed(kPack, {&x, &y});
  const int64_t block_elements = packs ? kBlockElements<kPack> : kBlockElements<1>;
  Launch("Copy", packs ? &MoveKernel<From, To, kPack> : &MoveKernel<From, To, 1>,
         {.grid = static_cast<unsigned>(CeilDiv(n, block_elements)), .block = kThreads}, stream, n,
         static_cast<const From*>(x.data), static_cast<To*>(y.data));
}

template <class Raw>
void FillRaw(Stream& stream, const Tensor& x, Raw value) {
  constexpr int kPack = kPackOf16<Raw>;
  const bool packs = PacksAllowed(kPack, {&x});
  const int64_t block_elements = packs ? kBlockElements<kPack> : kBlockElements<1>;
  Launch("Fill", packs ? &FillKernel<Raw, kPack> : &FillKernel<Raw, 1>,
         {.grid = static_cast<unsigned>(CeilDiv(x.size(), block_elements)), .block = kThreads}, stream,
         x.size(), value, static_cast<Raw*>(x.data));
}

__device__ inline double ToDouble(float x) {
  return x;
}
__device__ inline double ToDouble(double x) {
  return x;
}
__device__ inline float Widened(float x) {
  return x;
}
__device__ inline float Widened(Bf16 x) {
  return ToFloat(x);
}
__device__ inline double Widened(double x) {
  return x;
}

// The terms of a pack, added in float or double.
template <SumOf kWhat, class T, int kPack>
__device__ inline double PackSum(const Pack<T, kPack>& pack) {
  decltype(Widened(T{})) sum = 0;
#pragma unroll
  for (int e = 0; e < kPack; ++e) {
    const auto x = Widened(pack.value[e]);
    sum += kWhat == SumOf::kSquares ? x * x : x;
  }
  return ToDouble(sum);
}

// partials[b] = the sum over every gridDim.x-th run of kThreads * kSumInFlight packs.
template <SumOf kWhat, class T, int kPack>
UNIPOOL_KERNEL((kThreads), PartialSumKernel, int64_t n, const T* x, double* partials) {
  double sum = 0;
  const int64_t run = int64_t{kThreads} * kSumInFlight * kPack;
  for (int64_t begin = blockIdx.x * run; begin < n; begin += gridDim.x * run) {
    Pack<T, kPack> packs[kSumInFlight];
#pragma unroll
    for (int c = 0; c < kSumInFlight; ++c) {
      const int64_t j = begin + (c * kThreads + static_cast<int>(threadIdx.x)) * kPack;
      if (j + kPack <= n) packs[c] = LoadPack<kPack>(x + j);
    }
#pragma unroll
    for (int c = 0; c < kSumInFlight; ++c) {
      const int64_t j = begin + (c * kThreads + static_cast<int>(threadIdx.x)) * kPack;
      if (j + kPack <= n) sum += PackSum<kWhat>(packs[c]);
    }
  }
  const int64_t last = n / kPack * kPack + threadIdx.x;
  if (blockIdx.x == 0 && last < n) sum += PackSum<kWhat>(Pack<T, 1>{{x[last]}});
  sum = BlockSum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// One block of kThreads.
UNIPOOL_KERNEL((kThreads), FoldKernel, int num_partials, const double* partials, double* sum) {
  double share = 0;
  for (int i = threadIdx.x; i < num_partials; i += kThreads) share += partials[i];
  share = BlockSum(share);
  if (threadIdx.x == 0) *sum += share;
}

template <SumOf kWhat, class T>
void LaunchSum(Stream& stream, const Tensor& x, double* partials, double* sum) {
  constexpr int kPack = kPackOf16<T>;
  const bool packs = PacksAllowed(kPack, {&x});
  const int64_t runs = CeilDiv(x.size(), int64_t{kThreads} * kSumInFlight * (packs ? kPack : 1));
  const int64_t num_partials = std::min(runs, kMostSumPartials);
  Launch("Sum", packs ? &PartialSumKernel<kWhat, T, kPack> : &PartialSumKernel<kWhat, T, 1>,
         {.grid = static_cast<unsigned>(num_partials), .block = kThreads}, stream, x.size(), x.as<T>(),
         partials);
  Launch("Sum fold", &FoldKernel, {.grid = 1, .block = kThreads}, stream, num_partials, partials, sum);
}

void DispatchSum(Stream& stream, SumOf what, const Tensor& x, double* partials, double* sum) {
  const auto launch = [&]<class T>() {
    if (what == SumOf::kSquares) {
      LaunchSum<SumOf::kSquares, T>(stream, x, partials, sum);
    } else {
      LaunchSum<SumOf::kValues, T>(stream, x, partials, sum);
    }
  };
  if (x.dtype == DType::kF64) return launch.template operator()<double>();
  DispatchDevice("Sum", x.dtype, launch);
}

}  // namespace

void AddSum(Stream& stream, SumOf what, const Tensor& x, const Tensor& sum) {
  auto* partials = static_cast<double*>(stream.Scratch(AddSumScratchBytes(Device::kCuda)));
  DispatchSum(stream, what, x, partials, sum.as<double>());
}

void Fill(Stream& stream, const Tensor& x, double value) {
  switch (x.dtype) {
    case DType::kF32:
      return FillRaw<float>(stream, x, static_cast<float>(value));
    case DType::kF64:
      return FillRaw<double>(stream, x, value);
    case DType::kBF16:
      return FillRaw<Bf16>(stream, x, __float2bfloat16(static_cast<float>(value)));
    case DType::kI32:
      return FillRaw<int32_t>(stream, x, static_cast<int32_t>(value));
    case DType::kI64:
      return FillRaw<int64_t>(stream, x, static_cast<int64_t>(value));
  }
}

void RaiseToLeast(Stream& stream, const Tensor& x, double least) {
  CHECK(x.dtype == DType::kF32) << "RaiseToLeast of " << NameOf(x.dtype);
  Launch("RaiseToLeast", &RaiseKernel,
         {.grid = static_cast<unsigned>(CeilDiv(x.size(), kThreads)), .block = kThreads}, stream, x.size(),
         static_cast<float>(least), static_cast<float*>(x.data));
}

void Copy(Stream& stream, const Tensor& src, const Tensor& dst) {
  if (src.dtype != dst.dtype) {
    return DispatchDevicePair("Copy", src.dtype, dst.dtype,
                              [&]<class From, class To>() { Move<From, To>(stream, src, dst); });
  }
  switch (SizeOf(src.dtype)) {
    case 2:
      return Move<uint16_t, uint16_t>(stream, src, dst);
    case 4:
      return Move<uint32_t, uint32_t>(stream, src, dst);
    default:
      return Move<uint64_t, uint64_t>(stream, src, dst);
  }
}

}  // namespace unipool::cuda
