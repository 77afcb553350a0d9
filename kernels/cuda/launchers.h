// The launchers of all CUDA kernels: how the public function of a kernel unit reaches its kernel on a device.
//
//   kernels/cuda/launchers.h   declares:  UNIPOOL_CUDA_LAUNCHER(Forward, Stream& stream, const Tensor& x)
//   kernels/x_cuda.cu          defines unipool::cuda::Forward and the kernels that it starts
//   kernels/x.cc               checks shapes and types, then:
//                                if (stream.device() == Device::kCuda) return cuda::Forward(stream, x);
//
// So a launcher may rely on checked shapes and types; what its tensors hold stands in x.h.
// Without a toolkit the declaration is also a weak definition that ends the job with a sentence. The CPU
// build links, and nothing falls back silently. Tests that execute the kernels on the host link the .cu files
// compiled as C++, whose definitions win over the weak ones.
#pragma once

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/copy_segments.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/rope.h"
#include "kernels/router_forward.h"
#include "kernels/row_deal.h"
#include "kernels/row_order.h"
#include "runtime/stream.h"

namespace unipool::cuda {

inline void RefuseWithoutToolkit(const char* launcher) {
  throw UserError(std::string(launcher) +
                  " was asked to run on a CUDA device, but this program was built without a CUDA toolkit; "
                  "build it where nvcc is found, or run on the CPU");
}

}  // namespace unipool::cuda

#if defined(UNIPOOL_WITH_CUDA) || defined(UNIPOOL_CUDA_SOURCE)
#define UNIPOOL_CUDA_LAUNCHER(name, ...) \
  namespace unipool::cuda {              \
  void name(__VA_ARGS__);                \
  }
#else
#define UNIPOOL_CUDA_LAUNCHER(name, ...)                                                  \
  namespace unipool::cuda {                                                               \
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wunused-parameter\"") \
      [[gnu::weak]] void name(__VA_ARGS__) {                                              \
    RefuseWithoutToolkit(#name);                                                          \
  }                                                                                       \
  _Pragma("GCC diagnostic pop")                                                           \
  }
#endif

// adamw.h
UNIPOOL_CUDA_LAUNCHER(AdamWGroup, Stream& stream, const AdamWArgs& args, std::span<const AdamWTensors> group)

// attention.h
UNIPOOL_CUDA_LAUNCHER(AttentionForward, Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                      const Tensor& out, const Tensor& lse)
UNIPOOL_CUDA_LAUNCHER(AttentionBackward, Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                      const Tensor& out, const Tensor& lse, const Tensor& dout, const Tensor& dqkv)
UNIPOOL_CUDA_LAUNCHER(AttentionDecode, Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                      const Tensor& cache, int64_t position, const Tensor& out)

// copy_segments.h
UNIPOOL_CUDA_LAUNCHER(CopySegments, Stream& stream, std::span<const Segment> segments)

// cross_entropy.h
UNIPOOL_CUDA_LAUNCHER(CrossEntropy, Stream& stream, const Tensor& logits, const Tensor& targets,
                      double grad_scale, const Tensor& losses)

// embedding.h; the forward is a gather of rows.
UNIPOOL_CUDA_LAUNCHER(EmbeddingBackward, Stream& stream, const Tensor& tokens, const Tensor& dout,
                      const Tensor& dtable)

// gemm.h and grouped_gemm.h: cuBLAS (kernels/cuda/blas.h).
UNIPOOL_CUDA_LAUNCHER(Gemm, Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b,
                      float beta, const Tensor& c)
UNIPOOL_CUDA_LAUNCHER(GroupedGemmForward, Stream& stream, GroupOffsets offsets, const Tensor& x,
                      const Tensor& w, const Tensor& y)
UNIPOOL_CUDA_LAUNCHER(GroupedGemmInputGrad, Stream& stream, GroupOffsets offsets, const Tensor& dy,
                      const Tensor& w, const Tensor& dx)
// F32; BF16 is GroupedWeightGradBf16.
UNIPOOL_CUDA_LAUNCHER(GroupedGemmWeightGrad, Stream& stream, GroupOffsets offsets, const Tensor& dy,
                      const Tensor& x, const Tensor& dw, std::span<uint8_t> has_grad)
// GroupedGemmWeightGradOfSlots for BF16 with F32 sums: cuBLAS's grouped product writes the type of its inputs
// only. One launch for as many experts as its arguments hold: 251 with rows in one slot, 100 with rows in 4
// slots, 38 in 12. It reads dy and x once per tile of 256 x 128 (from the L2 cache, if an expert's rows fit).
// It writes dw once, and reads dw where it is added to. At most 2^31 - 1 rows.
UNIPOOL_CUDA_LAUNCHER(GroupedWeightGradBf16, Stream& stream, std::span<const GroupOffsets> slots,
                      const Tensor& dy, const Tensor& x, const Tensor& dw, std::span<uint8_t> has_grad)
// to[i] = addresses[i], which a library reads from device memory; `to` is device memory. The addresses travel
// as arguments of a kernel. So the host's array is free when the call returns, nothing waits, no pinned
// memory is kept, and the order is the stream's. One launch for each 480 addresses.
UNIPOOL_CUDA_LAUNCHER(WriteAddresses, Stream& stream, std::span<const uintptr_t> addresses, uintptr_t* to)

// host_values.h
UNIPOOL_CUDA_LAUNCHER(SetValues, Stream& stream, std::span<const double> values, const Tensor& to)

// permute.h
// Of Permute and of EmbeddingForward.
UNIPOOL_CUDA_LAUNCHER(GatherRows, Stream& stream, const Tensor& src, const Tensor& index, const Tensor& dst)
// Of Unpermute, and of PermuteBackward with empty weights: all are 1.
UNIPOOL_CUDA_LAUNCHER(Unpermute, Stream& stream, const Tensor& rows, const Tensor& row_of,
                      const Tensor& weights, const Tensor& residual, const Tensor& out)
UNIPOOL_CUDA_LAUNCHER(UnpermuteBackward, Stream& stream, const Tensor& dout, const Tensor& rows,
                      const Tensor& row_of, const Tensor& weights, const Tensor& drows,
                      const Tensor& dweights)

// rank_sum.h
UNIPOOL_CUDA_LAUNCHER(SumInRankOrder, Stream& stream, const Tensor& own, const void* parts, int64_t stride,
                      int rank, int size)

// reduce.h
namespace unipool::cuda {
enum class SumOf { kValues, kSquares };
}
UNIPOOL_CUDA_LAUNCHER(AddSum, Stream& stream, SumOf what, const Tensor& x, const Tensor& sum)
UNIPOOL_CUDA_LAUNCHER(Fill, Stream& stream, const Tensor& x, double value)
UNIPOOL_CUDA_LAUNCHER(RaiseToLeast, Stream& stream, const Tensor& x, double least)
UNIPOOL_CUDA_LAUNCHER(Copy, Stream& stream, const Tensor& src, const Tensor& dst)

// rms_norm.h
UNIPOOL_CUDA_LAUNCHER(RmsNormForward, Stream& stream, const Tensor& x, const Tensor& weight, double eps,
                      const Tensor& y, const Tensor& inv_rms)
UNIPOOL_CUDA_LAUNCHER(RmsNormBackward, Stream& stream, const Tensor& x, const Tensor& weight,
                      const Tensor& inv_rms, const Tensor& dy, const Tensor& residual_grad, const Tensor& dx,
                      const Tensor& dweight)

// rope.h
UNIPOOL_CUDA_LAUNCHER(Rope, Stream& stream, const AttentionShape& shape, const Tensor& cos, const Tensor& sin,
                      RopeDirection direction, const Tensor& qkv, int64_t first_position)

// router_forward.h
UNIPOOL_CUDA_LAUNCHER(RouterForward, Stream& stream, const RouterScoreSpec& spec, const RouterInputs& in,
                      const RouterOutputs& out)

// router_scores.h
UNIPOOL_CUDA_LAUNCHER(RouterScoresBackward, Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                      const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                      const RouterScoreGrads& grads)

// row_deal.h
UNIPOOL_CUDA_LAUNCHER(DealRows, Stream& stream, const RowDeal& deal, const Tensor& experts, int64_t turn,
                      const RowOrder& order, const Tensor& rows_of_place)

// row_order.h
UNIPOOL_CUDA_LAUNCHER(OrderRows, Stream& stream, const Tensor& experts, const Tensor& weights,
                      const Tensor& send_index, const RowOrder& order)

// split_bf16.h
UNIPOOL_CUDA_LAUNCHER(SplitBf16, Stream& stream, const Tensor& x, const Tensor& high, const Tensor& low)

// swiglu.h
UNIPOOL_CUDA_LAUNCHER(SwigluForward, Stream& stream, const Tensor& gate_up, const Tensor& activation)
UNIPOOL_CUDA_LAUNCHER(SwigluBackward, Stream& stream, const Tensor& gate_up, const Tensor& dactivation,
                      const Tensor& dgate_up, const Tensor& activation)
