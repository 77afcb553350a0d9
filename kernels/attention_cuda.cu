#include "kernels/cuda/attention_view.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

constexpr int kTermThreads = 256, kLanesOfRow = 8, kTermsOfBlock = kTermThreads / kLanesOfRow;

// RowTerms of all heads, in rows that are kTermRows' multiples long. Eight lanes per row.
template <class T, int kPack>
UNIPOOL_KERNEL((kTermThreads), RowTermsKernel, AttentionView<T> a, int padded_length, RowTerm* terms) {
  const int lane = static_cast<int>(threadIdx.x) % kLanesOfRow;
  // (sequence, position, head), heads first: neighbouring rows lie together in memory
  const int64_t row = int64_t{blockIdx.x} * kTermsOfBlock + static_cast<int>(threadIdx.x) / kLanesOfRow;
  const int head = static_cast<int>(row % a.num_heads);
  const int position = static_cast<int>(row / a.num_heads % padded_length);
  const int sequence = static_cast<int>(row / a.num_heads / padded_length);
  const bool exists = sequence < a.num_sequences && position < a.length;
  float mean = 0;
  if (exists) {
    const int64_t at = a.OutAt(sequence, position, head);
    for (int j = lane * kPack; j < a.head_size; j += kLanesOfRow * kPack) {
      const Pack<T, kPack> out = LoadPack<kPack>(a.out + at + j), dout = LoadPack<kPack>(a.dout + at + j);
#pragma unroll
      for (int e = 0; e < kPack; ++e) mean += ToFloat(out.value[e]) * ToFloat(dout.value[e]);
    }
  }
#pragma unroll
  for (int step = kLanesOfRow / 2; step > 0; step /= 2) mean += __shfl_xor_sync(kFullWarp, mean, step);
  if (lane != 0 || sequence >= a.num_sequences) return;
  const float lse2 =
      exists ? a.lse[a.Token(sequence, position) * a.num_heads + head] * kLog2E : float{INFINITY};
  terms[(int64_t{sequence} * a.num_heads + head) * padded_length + position] = {lse2, mean};
}

template <class T>
const RowTerm* MakeRowTerms(Stream& stream, int64_t scratch_bytes, const AttentionView<T>& view) {
  const int64_t padded_length = CeilDiv(view.length, kTermRows) * kTermRows;
  const int64_t count = view.num_sequences * view.num_heads * padded_length;
  RowTerm* terms = static_cast<RowTerm*>(stream.Scratch(scratch_bytes));
  Launch("AttentionBackward row terms", view.packs ? &RowTermsKernel<T, kPackOf16<T>> : &RowTermsKernel<T, 1>,
         {.grid = static_cast<unsigned>(CeilDiv(count, kTermsOfBlock)), .block = kTermThreads}, stream, view,
         static_cast<int>(padded_length), terms);
  return terms;
}

}  // namespace

void AttentionForward(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                      const Tensor& lse) {
  DispatchDevice("AttentionForward", qkv.dtype, [&]<class T>() {
    AttentionView<T> view = ViewOf<T>(shape);
    view.packs = RowsAllowPacks(shape.head_size, {&qkv, &out});
    view.qkv = qkv.as<T>();
    view.out_to = out.as<T>();
    view.lse_to = lse.as<float>();
    AttentionForwardOn(stream, view);
  });
}

void AttentionBackward(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& lse, const Tensor& dout, const Tensor& dqkv) {
  if (shape.tokens() == 0) return;
  DispatchDevice("AttentionBackward", qkv.dtype, [&]<class T>() {
    AttentionView<T> view = ViewOf<T>(shape);
    view.packs = RowsAllowPacks(shape.head_size, {&qkv, &out, &dout, &dqkv});
    view.qkv = qkv.as<T>();
    view.out = out.as<T>();
    view.dout = dout.as<T>();
    view.dqkv = dqkv.as<T>();
    view.lse = lse.as<float>();
    view.terms = MakeRowTerms(stream, AttentionScratchBytes(Device::kCuda, shape, qkv.dtype), view);
    AttentionBackwardOn(stream, view);
  });
}

}  // namespace unipool::cuda
