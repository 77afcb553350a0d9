// Many tensors in a launch: their addresses and sizes travel as arguments, and each block finds the tensor
// that its number belongs to. A block updates kBlockElements neighbours.
#include <cfloat>
#include <cmath>
#include <vector>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 256, kPacked = 4, kInFlight = 2;
constexpr int64_t kBlockElements = int64_t{kThreads} * kPacked * 4;
constexpr int kMostTensors = 64;  // arguments of a kernel: at most 4 KiB

struct Entry {
  float* param;
  const void* grad;  // null: zero
  float *m, *v;
  void* copy;  // null: none
  int64_t n;
  int first_block;
  bool packed;  // all arrays begin at whole packs
};

struct GroupArguments {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, m_correction, v_correction, lr, eps, weight_decay;
  float grad_scale, max_grad_norm;
  const double* grad_squares;  // null: do not clip
  const double* finite;        // [num_finite] unless all are finite, nothing is written
  int num_finite, num_tensors;
  Entry tensors[kMostTensors];
};

__device__ inline float GradScale(const GroupArguments& a) {
  if (!a.grad_squares) return a.grad_scale;
  const double squares = *a.grad_squares;
  const float root =
      squares < FLT_MAX ? sqrtf(static_cast<float>(squares)) : static_cast<float>(sqrt(squares));
  const float norm = fabsf(a.grad_scale) * root;
  return norm > a.max_grad_norm ? a.grad_scale * (a.max_grad_norm / norm) : a.grad_scale;
}

__device__ inline bool AllFinite(const GroupArguments& a) {
  bool all = true;
  for (int i = 0; i < a.num_finite; ++i) all &= fabs(a.finite[i]) <= DBL_MAX;  // false for NaN
  return all;
}

// Elements [begin, end) of a tensor by the whole block. REQUIRES: the range is whole packs.
template <class Grad, class Copy, int kPack>
__device__ inline void UpdateRange(const GroupArguments& a, const Entry& tensor, float grad_scale,
                                   int64_t begin, int64_t end) {
  constexpr int kStride = kThreads * kPack;
  for (int64_t first = begin + static_cast<int>(threadIdx.x) * kPack; first < end;
       first += kInFlight * kStride) {
    Pack<float, kPack> p[kInFlight], m[kInFlight], v[kInFlight];
    Pack<Grad, kPack> grad[kInFlight];
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      const int64_t j = first + c * kStride;
      if (j >= end) continue;
      p[c] = LoadPack<kPack>(tensor.param + j);
      m[c] = LoadPack<kPack>(tensor.m + j);
      v[c] = LoadPack<kPack>(tensor.v + j);
      if (tensor.grad) {
        grad[c] = LoadPack<kPack>(static_cast<const Grad*>(tensor.grad) + j);
      } else {
#pragma unroll
        for (int e = 0; e < kPack; ++e) grad[c].value[e] = FromFloat<Grad>(0.0f);
      }
    }
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      const int64_t j = first + c * kStride;
      if (j >= end) continue;
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        const float g = grad_scale * ToFloat(grad[c].value[e]), old = p[c].value[e];
        const float new_m = a.beta1 * m[c].value[e] + a.one_minus_beta1 * g;
        const float new_v = a.beta2 * v[c].value[e] + a.one_minus_beta2 * (g * g);
        const float direction = new_m * a.m_correction / (sqrtf(new_v * a.v_correction) + a.eps);
        m[c].value[e] = new_m;
        v[c].value[e] = new_v;
        p[c].value[e] = old - a.lr * (direction + a.weight_decay * old);
      }
      StorePack(tensor.param + j, p[c]);
      StorePack(tensor.m + j, m[c]);
      StorePack(tensor.v + j, v[c]);
      if (tensor.copy) StorePack(static_cast<Copy*>(tensor.copy) + j, ConvertPack<Copy>(p[c]));
    }
  }
}

// Block kThreads.
template <class Grad, class Copy>
UNIPOOL_KERNEL((kThreads), GroupKernel, const __grid_constant__ GroupArguments a) {
  if (!AllFinite(a)) return;
  const int block = static_cast<int>(blockIdx.x);
  int low = 0, high = a.num_tensors;  // the tensor is in [low, high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (a.tensors[middle].first_block <= block ? low : high) = middle;
  }
  const Entry& tensor = a.tensors[low];
  const float grad_scale = GradScale(a);
  const int64_t begin = (block - tensor.first_block) * kBlockElements;
  const int64_t end = min(begin + kBlockElements, tensor.n);
  const int64_t packed_end = tensor.packed ? end / kPacked * kPacked : begin;
  UpdateRange<Grad, Copy, kPacked>(a, tensor, grad_scale, begin, packed_end);
  UpdateRange<Grad, Copy, 1>(a, tensor, grad_scale, packed_end, end);
}

bool BeginsAtPacks(const Tensor& tensor) {
  return tensor.empty() || reinterpret_cast<uintptr_t>(tensor.data) % (kPacked * SizeOf(tensor.dtype)) == 0;
}

Entry EntryOf(const AdamWTensors& tensors, int first_block) {
  return {.param = tensors.param.as<float>(),
          .grad = tensors.grad.data,
          .m = tensors.m.as<float>(),
          .v = tensors.v.as<float>(),
          .copy = tensors.copy.data,
          .n = tensors.param.size(),
          .first_block = first_block,
          .packed = BeginsAtPacks(tensors.param) && BeginsAtPacks(tensors.grad) && BeginsAtPacks(tensors.m) &&
                    BeginsAtPacks(tensors.v) && BeginsAtPacks(tensors.copy)};
}

// The step's factors, computed once in double.
GroupArguments FactorsOf(const AdamWArgs& args) {
  const auto single = [](double x) { return static_cast<float>(x); };
  return {.beta1 = single(args.beta1),
          .one_minus_beta1 = single(1 - args.beta1),
          .beta2 = single(args.beta2),
          .one_minus_beta2 = single(1 - args.beta2),
          .m_correction = single(1 / (1 - std::pow(args.beta1, static_cast<double>(args.step)))),
          .v_correction = single(1 / (1 - std::pow(args.beta2, static_cast<double>(args.step)))),
          .lr = single(args.lr),
          .eps = single(args.eps),
          .weight_decay = single(args.weight_decay),
          .grad_scale = single(args.grad_scale),
          .max_grad_norm = single(args.max_grad_norm),
          .grad_squares = args.max_grad_norm > 0 ? args.grad_squares.as<double>() : nullptr,
          .finite = args.finite.empty() ? nullptr : args.finite.as<double>(),
          .num_finite = args.finite.empty() ? 0 : static_cast<int>(args.finite.size()),
          .num_tensors = 0};
}

// Launches what has been collected, if anything.
template <class Grad, class Copy>
void Flush(Stream& stream, GroupArguments& arguments, int& num_blocks) {
  if (num_blocks > 0) {
    Launch("AdamWGroup", &GroupKernel<Grad, Copy>,
           {.grid = static_cast<unsigned>(num_blocks), .block = kThreads}, stream, arguments);
  }
  arguments.num_tensors = num_blocks = 0;
}

// The tensors whose gradient and copy have these types; absent ones count as F32.
template <class Grad, class Copy>
void UpdateThose(Stream& stream, const AdamWArgs& args, std::span<const AdamWTensors> group) {
  const auto is = [](const Tensor& tensor, DType dtype) {
    return (tensor.empty() ? DType::kF32 : tensor.dtype) == dtype;
  };
  GroupArguments arguments = FactorsOf(args);
  int num_blocks = 0;
  for (const AdamWTensors& tensors : group) {
    if (!is(tensors.grad, DTypeOf<Grad>::value) || !is(tensors.copy, DTypeOf<Copy>::value)) continue;
    const int64_t blocks = CeilDiv(tensors.param.size(), kBlockElements);
    if (blocks == 0) continue;
    CHECK_LT(num_blocks + blocks, int64_t{1} << 31);
    arguments.tensors[arguments.num_tensors++] = EntryOf(tensors, num_blocks);
    num_blocks += static_cast<int>(blocks);
    if (arguments.num_tensors == kMostTensors) Flush<Grad, Copy>(stream, arguments, num_blocks);
  }
  Flush<Grad, Copy>(stream, arguments, num_blocks);
}

}  // namespace

void AdamWGroup(Stream& stream, const AdamWArgs& args, std::span<const AdamWTensors> group) {
  for (const DType grad : {DType::kF32, DType::kBF16}) {
    for (const DType copy : {DType::kF32, DType::kBF16}) {
      DispatchDevicePair("AdamW", grad, copy,
                         [&]<class Grad, class Copy>() { UpdateThose<Grad, Copy>(stream, args, group); });
    }
  }
}

}  // namespace unipool::cuda
