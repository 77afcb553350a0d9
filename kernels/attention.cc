#include "kernels/attention.h"

#include <cmath>
#include <utility>

#include "kernels/check_tensor.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/scratch.h"
#include "kernels/gemm.h"
#include "runtime/poll_point.h"

namespace unipool {
namespace {

// Query rows whose probabilities are kept together in the backward: long enough for the products over them.
constexpr int64_t kBackwardBlock = 4 * kAttentionRows * (kAttentionRows < 12 ? 3 : 1);

void CheckHeads(const AttentionShape& shape) {
  CHECK(shape.num_kv_heads > 0 && shape.num_heads % shape.num_kv_heads == 0 && shape.head_size > 0)
      << shape.num_heads << " heads, " << shape.num_kv_heads << " key/value heads of " << shape.head_size;
}

// Arithmetic of `num_products` products of [s, s] with d, of which only what lies on or below the diagonal
// counts.
double Flops(const AttentionShape& shape, int num_products) {
  const double s = static_cast<double>(shape.sequence_length);
  return num_products * s * (s + 1) *
         static_cast<double>(shape.num_sequences * shape.num_heads * shape.head_size);
}

// Where the heads of one sequence begin, in qkv or its gradient.
template <class T>
struct SequenceView {
  SequenceView(const AttentionShape& shape, const Tensor& qkv, int64_t sequence)
      : stride(shape.qkv_size()),
        shape_(shape),
        data_(qkv.as<T>() + sequence * shape.sequence_length * stride) {}
  T* query(int64_t h) const { return data_ + h * shape_.head_size; }
  T* key(int64_t g) const { return query(shape_.num_heads + g); }
  T* value(int64_t g) const { return query(shape_.num_heads + shape_.num_kv_heads + g); }
  int64_t stride;  // elements from one token to the next

 private:
  const AttentionShape& shape_;
  T* data_;
};

// Memory handed out piece by piece from a stream's scratch.
template <class T>
struct Pieces {
  T* Take(int64_t count) {
    return std::exchange(next, next + (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>);
  }
  T* next = nullptr;
};

template <class T>
class Forward {
 public:
  static int64_t ScratchBytes(const AttentionShape& shape) {
    const int64_t s = shape.sequence_length, d = shape.head_size;
    const int64_t keys = d * PackedColumns<T>(s), values = s * PackedColumns<T>(d);
    return (keys + values + kAttentionRows * (PackedColumns<T>(s) + kLanes<T>)) * int64_t{sizeof(T)};
  }

  Forward(Stream& stream, const AttentionShape& shape)
      : shape_(shape),
        s_(shape.sequence_length),
        d_(shape.head_size),
        // Rows of scores, padded to whole vectors and off the powers of two that would share cache sets.
        score_stride_(PackedColumns<T>(s_) + kLanes<T>),
        scale_(static_cast<T>(1 / std::sqrt(static_cast<double>(d_)))) {
    const int64_t keys = d_ * PackedColumns<T>(s_), values = s_ * PackedColumns<T>(d_);
    const int64_t scores = kAttentionRows * score_stride_;
    Pieces<T> pieces{static_cast<T*>(stream.Scratch(ScratchBytes(shape)))};
    keys_ = pieces.Take(keys);
    values_ = pieces.Take(values);
    scores_ = pieces.Take(scores);
  }

  void Run(const Tensor& qkv, const Tensor& out, const Tensor& lse) {
    const int64_t group_size = shape_.num_heads / shape_.num_kv_heads;
    for (int64_t b = 0; b < shape_.num_sequences; ++b) {
      const SequenceView<T> view(shape_, qkv, b);
      T* const out_rows = out.as<T>() + b * s_ * shape_.out_size();
      T* const lse_rows = lse.as<T>() + b * s_ * shape_.num_heads;
      for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
        PackPanels<T>({view.key(g), view.stride, true}, 0, s_, 0, d_, keys_);
        PackPanels<T>({view.value(g), view.stride, false}, 0, d_, 0, s_, values_);
        for (int64_t h = g * group_size; h < (g + 1) * group_size; ++h) {
          for (int64_t t = 0; t < s_; t += kAttentionRows) {
            RunTile(view.query(h) + t * view.stride, view.stride, t,
                    out_rows + t * shape_.out_size() + h * d_, lse_rows + t * shape_.num_heads + h);
          }
          PollPoint();
        }
      }
    }
  }

 private:
  // Query rows t, t + 1, ...: scores, softmax without its division, product with the values, division.
  void RunTile(const T* query, int64_t query_stride, int64_t t, T* out, T* lse) {
    const int rows = static_cast<int>(std::min<int64_t>(kAttentionRows, s_ - t));
    const int64_t num_keys = t + rows, out_stride = shape_.out_size();
    if (num_keys + kAttentionRows <= s_) FetchRows(query + rows * query_stride, query_stride, d_);
    TileTimesPacked<T>(TileForm::kRows, rows, query, query_stride, d_, {keys_, d_, s_}, num_keys, scale_, 0,
                       {scores_, score_stride_, true});
    T sums[kAttentionRows];
    for (int i = 0; i < rows; ++i) {
      T* const row = scores_ + i * score_stride_;
      const T largest = MaxOfRow(row, t + i + 1);
      sums[i] = ExpRow(row, largest, t + i + 1, num_keys);
      lse[i * shape_.num_heads] = largest + std::log(sums[i]);
    }
    TileTimesPacked<T>(TileForm::kRows, rows, scores_, score_stride_, num_keys, {values_, s_, d_}, d_, 1, 0,
                       {out, out_stride});
    for (int i = 0; i < rows; ++i) {
      const T inverse = 1 / sums[i];
      for (int64_t j = 0; j < d_; ++j) out[i * out_stride + j] *= inverse;
    }
  }

  const AttentionShape& shape_;
  int64_t s_, d_, score_stride_;
  T scale_;
  T *keys_, *values_, *scores_;
};

template <class T>
class Backward {
 public:
  static int64_t ScratchBytes(const AttentionShape& shape) {
    const int64_t s = shape.sequence_length, d = shape.head_size;
    const int64_t by_d = d * PackedColumns<T>(s), by_s = s * PackedColumns<T>(d);
    const int64_t scores = kBackwardBlock * (PackedColumns<T>(s) + kLanes<T>);
    const int64_t block = kBackwardBlock * PackedColumns<T>(d), shifts = s * shape.num_heads + kLanes<T>;
    return (2 * by_d + by_s + 2 * scores + 2 * block + shifts) * static_cast<int64_t>(sizeof(T));
  }

  Backward(Stream& stream, const AttentionShape& shape)
      : shape_(shape),
        s_(shape.sequence_length),
        d_(shape.head_size),
        score_stride_(PackedColumns<T>(s_) + kLanes<T>),
        scale_(static_cast<T>(1 / std::sqrt(static_cast<double>(d_)))) {
    const int64_t by_d = d_ * PackedColumns<T>(s_), by_s = s_ * PackedColumns<T>(d_);
    const int64_t scores = kBackwardBlock * score_stride_, block = kBackwardBlock * PackedColumns<T>(d_);
    Pieces<T> pieces{static_cast<T*>(stream.Scratch(ScratchBytes(shape)))};
    keys_by_d_ = pieces.Take(by_d);
    values_by_d_ = pieces.Take(by_d);
    keys_by_s_ = pieces.Take(by_s);
    probabilities_ = pieces.Take(scores);
    gradients_ = pieces.Take(scores);
    query_block_ = pieces.Take(block);
    dout_block_ = pieces.Take(block);
    shifts_ = pieces.Take(s_ * shape_.num_heads);
  }

  void Run(const Tensor& qkv, const Tensor& out, const Tensor& lse, const Tensor& dout, const Tensor& dqkv) {
    const int64_t group_size = shape_.num_heads / shape_.num_kv_heads, out_size = shape_.out_size();
    for (int64_t b = 0; b < shape_.num_sequences; ++b) {
      const SequenceView<T> view(shape_, qkv, b), gradient(shape_, dqkv, b);
      for (int64_t i = 0; i < s_ * shape_.num_heads; ++i) {
        const int64_t at = b * s_ * out_size + i * d_;
        shifts_[i] = Dot(out.as<T>() + at, dout.as<T>() + at, d_);
      }
      for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
        PackPanels<T>({view.key(g), view.stride, true}, 0, s_, 0, d_, keys_by_d_);
        PackPanels<T>({view.value(g), view.stride, true}, 0, s_, 0, d_, values_by_d_);
        PackPanels<T>({view.key(g), view.stride, false}, 0, d_, 0, s_, keys_by_s_);
        for (int64_t h = g * group_size; h < (g + 1) * group_size; ++h) {
          const Head head{view.query(h),
                          view.stride,
                          dout.as<T>() + b * s_ * out_size + h * d_,
                          lse.as<T>() + b * s_ * shape_.num_heads + h,
                          shifts_ + h,
                          gradient.query(h),
                          gradient.key(g),
                          gradient.value(g),
                          h == g * group_size};
          for (int64_t t0 = 0; t0 < s_; t0 += kBackwardBlock) {
            RunBlock(head, t0);
            PollPoint();
          }
        }
      }
    }
  }

 private:
  struct Head {
    const T* query;
    int64_t stride;  // of query and the three gradients, from one token to the next
    const T *dout, *lse, *shifts;
    T *dquery, *dkey, *dvalue;
    bool first_of_group;  // dkey and dvalue hold nothing yet
  };

  void RunBlock(const Head& head, int64_t t0) {
    const int64_t end = std::min(s_, t0 + kBackwardBlock);
    for (int64_t t = t0; t < end; t += kAttentionRows) RunQueryTile(head, t0, t);
    PackPanels<T>({head.query, head.stride, false}, 0, d_, t0, end - t0, query_block_);
    PackPanels<T>({head.dout, shape_.out_size(), false}, 0, d_, t0, end - t0, dout_block_);
    for (int64_t key = 0; key < end; key += kAttentionRows) RunKeyTile(head, t0, end, key);
  }

  // Probabilities and the gradient of the scores for query rows t, t + 1, ... of the block that begins at t0;
  // dquery.
  void RunQueryTile(const Head& head, int64_t t0, int64_t t) {
    const int rows = static_cast<int>(std::min<int64_t>(kAttentionRows, s_ - t));
    const int64_t num_keys = t + rows, out_stride = shape_.out_size();
    T* const probabilities = probabilities_ + (t - t0) * score_stride_;
    T* const gradients = gradients_ + (t - t0) * score_stride_;
    const T* const query = head.query + t * head.stride;
    const T* const dout = head.dout + t * out_stride;
    if (num_keys + kAttentionRows <= s_) {
      FetchRows(query + rows * head.stride, head.stride, d_);
      FetchRows(dout + rows * out_stride, out_stride, d_);
    }
    TileTimesPacked<T>(TileForm::kRows, rows, query, head.stride, d_, {keys_by_d_, d_, s_}, num_keys, scale_,
                       0, {probabilities, score_stride_, true});
    TileTimesPacked<T>(TileForm::kRows, rows, dout, out_stride, d_, {values_by_d_, d_, s_}, num_keys, 1, 0,
                       {gradients, score_stride_, true});
    for (int i = 0; i < rows; ++i) {
      T* const row = probabilities + i * score_stride_;
      ExpRow(row, head.lse[(t + i) * shape_.num_heads], t + i + 1, num_keys);
      const T shift = head.shifts[(t + i) * shape_.num_heads];
      SoftmaxBackwardRow(row, gradients + i * score_stride_, shift, num_keys);
    }
    TileTimesPacked<T>(TileForm::kRows, rows, gradients, score_stride_, num_keys, {keys_by_s_, s_, d_}, d_,
                       scale_, 0, {head.dquery + t * head.stride, head.stride});
  }

  // What the block's queries add to dkey and dvalue of the keys `key`, key + 1, ...
  void RunKeyTile(const Head& head, int64_t t0, int64_t end, int64_t key) {
    const int rows = static_cast<int>(std::min<int64_t>(kAttentionRows, s_ - key));
    const int64_t begin = std::max<int64_t>(0, key - t0);  // queries before the keys do not see them
    const int64_t num_queries = end - t0;
    const T beta = head.first_of_group && key >= t0 ? T(0) : T(1);
    const int64_t offset = begin * score_stride_ + key;
    TileTimesPacked<T>(TileForm::kDirect, rows, probabilities_ + offset, score_stride_, num_queries - begin,
                       {dout_block_, num_queries, d_, begin}, d_, 1, beta,
                       {head.dvalue + key * head.stride, head.stride});
    TileTimesPacked<T>(TileForm::kDirect, rows, gradients_ + offset, score_stride_, num_queries - begin,
                       {query_block_, num_queries, d_, begin}, d_, scale_, beta,
                       {head.dkey + key * head.stride, head.stride});
  }

  const AttentionShape& shape_;
  int64_t s_, d_, score_stride_;
  T scale_;
  T *keys_by_d_, *values_by_d_, *keys_by_s_;  // K^T and V^T [d, s], K [s, d], in panels
  T *probabilities_, *gradients_;             // [block, s], of the scores' softmax and of the scores
  T *query_block_, *dout_block_;              // [block, d] in panels
  T* shifts_;  // [s, H], <out, dout> of a row: the mean of the probabilities' gradient
};

}  // namespace

void AttentionForward(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                      const Tensor& lse) {
  CheckHeads(shape);
  CheckTensor("attention qkv", qkv, qkv.dtype, {shape.tokens(), shape.qkv_size()});
  CheckTensor("attention out", out, qkv.dtype, {shape.tokens(), shape.out_size()});
  CheckTensor("attention lse", lse, AccumulatorOf(qkv.dtype), {shape.tokens(), shape.num_heads});
  KernelScope scope(stream, Op::kAttention, Flops(shape, 2),
                    static_cast<double>(qkv.bytes() + out.bytes() + lse.bytes()));
  if (stream.device() == Device::kCuda) return cuda::AttentionForward(stream, shape, qkv, out, lse);
  DispatchFloat(qkv.dtype, [&]<class T>() { Forward<T>(stream, shape).Run(qkv, out, lse); });
}

void AttentionBackward(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& lse, const Tensor& dout, const Tensor& dqkv) {
  CheckHeads(shape);
  CheckTensor("attention qkv", qkv, qkv.dtype, {shape.tokens(), shape.qkv_size()});
  CheckTensor("attention out", out, qkv.dtype, {shape.tokens(), shape.out_size()});
  CheckTensor("attention lse", lse, AccumulatorOf(qkv.dtype), {shape.tokens(), shape.num_heads});
  CheckTensor("attention dout", dout, qkv.dtype, {shape.tokens(), shape.out_size()});
  CheckTensor("attention dqkv", dqkv, qkv.dtype, {shape.tokens(), shape.qkv_size()});
  KernelScope scope(stream, Op::kAttention, Flops(shape, 5),
                    2.0 * static_cast<double>(qkv.bytes() + out.bytes()) + static_cast<double>(lse.bytes()));
  if (stream.device() == Device::kCuda) {
    return cuda::AttentionBackward(stream, shape, qkv, out, lse, dout, dqkv);
  }
  DispatchFloat(qkv.dtype, [&]<class T>() { Backward<T>(stream, shape).Run(qkv, out, lse, dout, dqkv); });
}

int64_t AttentionScratchBytes(Device device, const AttentionShape& shape, DType dtype) {
  if (device == Device::kCuda) {
    const int64_t padded_length = cuda::CeilDiv(shape.sequence_length, cuda::kTermRows) * cuda::kTermRows;
    return shape.num_sequences * shape.num_heads * padded_length * cuda::kTermBytes;
  }
  int64_t bytes = 0;
  DispatchFloat(dtype, [&]<class T>() { bytes = Backward<T>::ScratchBytes(shape); });
  return bytes;
}

int64_t AttentionDecodeScratchBytes(Device device, const AttentionShape& shape, DType dtype,
                                    int64_t max_positions) {
  if (device == Device::kCuda) {
    const int64_t stretches =
        std::min<int64_t>(cuda::CeilDiv(max_positions, cuda::kDecodeKeys), cuda::kMostDecodeStretches);
    return stretches * shape.num_heads * (shape.head_size + 2) * int64_t{sizeof(float)};
  }
  int64_t bytes = 0;
  DispatchFloat(dtype, [&]<class T>() {
    bytes = shape.num_heads / shape.num_kv_heads * PackedColumns<T>(max_positions) * SizeOf(dtype);
  });
  return bytes;
}

void AttentionDecode(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& cache,
                     int64_t position, const Tensor& out) {
  CheckHeads(shape);
  const int64_t d = shape.head_size, group_size = shape.num_heads / shape.num_kv_heads;
  const int64_t stride = 2 * shape.num_kv_heads * d, num_keys = position + 1;
  CheckTensor("attention qkv", qkv, qkv.dtype, {1, shape.qkv_size()});
  CheckTensor("attention cache", cache, qkv.dtype, {cache.dim(0), stride});
  CheckTensor("attention out", out, qkv.dtype, {1, shape.out_size()});
  CHECK(position >= 0 && position < cache.dim(0)) << "position " << position << " of " << cache.dim(0);
  const double pairs = static_cast<double>(num_keys * shape.num_heads * d);
  KernelScope scope(stream, Op::kAttention, 4 * pairs,
                    static_cast<double>(num_keys * stride * SizeOf(qkv.dtype)));
  if (stream.device() == Device::kCuda) {
    return cuda::AttentionDecode(stream, shape, qkv, cache, position, out);
  }
  DispatchFloat(qkv.dtype, [&]<class T>() {
    std::copy_n(qkv.as<T>() + shape.num_heads * d, stride, cache.as<T>() + position * stride);
    const int64_t score_stride = PackedColumns<T>(num_keys);
    T* scores = static_cast<T*>(
        stream.Scratch(AttentionDecodeScratchBytes(Device::kCpu, shape, qkv.dtype, cache.dim(0))));
    const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(d)));
    for (int64_t g = 0; g < shape.num_kv_heads; ++g) {
      const T* keys = cache.as<T>() + g * d;
      const T* values = keys + shape.num_kv_heads * d;
      T* group_out = out.as<T>() + g * group_size * d;
      GemmStrided<T>(Trans::kNo, Trans::kYes, {group_size, num_keys, d}, scale,
                     qkv.as<T>() + g * group_size * d, d, keys, stride, 0, scores, score_stride);
      for (int64_t h = 0; h < group_size; ++h) {
        T* row = scores + h * score_stride;
        const T inverse = 1 / ExpRow(row, MaxOfRow(row, num_keys), num_keys, num_keys);
        for (int64_t j = 0; j < num_keys; ++j) row[j] *= inverse;
      }
      GemmStrided<T>(Trans::kNo, Trans::kNo, {group_size, d, num_keys}, 1, scores, score_stride, values,
                     stride, 0, group_out, d);
    }
  });
}

}  // namespace unipool
