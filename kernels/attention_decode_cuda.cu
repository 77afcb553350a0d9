// Attention of one new query row to cached keys and values. The keys are cut into stretches by their number
// alone; a block takes one stretch of one key/value head for all query heads of the group, so that the cache
// is read once, and a second kernel joins the stretches in their order.
#include "kernels/cuda/attention_view.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 128, kTileKeys = kDecodeTileKeys;

template <class T>
struct DecodeArguments {
  int num_heads, num_kv_heads, head_size, num_keys, keys_of_stretch;
  float scale;
  const T* qkv;    // [1, (H + 2 G) d]; the newest key and value
  T* cache;        // [num_keys, 2 G d], whose last row is written
  float* partial;  // [stretches, H, d + 2]: sum of p v, largest score, sum of p, relative to it
};

// The shared memory of a block, in floats, one after the other.
struct DecodeShared {
  __device__ __host__ DecodeShared(int group, int head_size)
      : query(0),
        tile(group * head_size),
        scores(tile + kTileKeys * (head_size + 1)),
        out(scores + group * kTileKeys),
        largest(out + group * head_size),
        sum(largest + group),
        factor(sum + group),
        end(factor + group) {}
  int query, tile, scores, out, largest, sum, factor, end;
};

// Row `key` of the cache, or where its content still lies.
template <class T>
__device__ inline const T* CacheRow(const DecodeArguments<T>& a, int key) {
  if (key == a.num_keys - 1) return a.qkv + a.num_heads * a.head_size;
  return a.cache + int64_t{key} * 2 * a.num_kv_heads * a.head_size;
}

// Elements [offset, offset + d) of kTileKeys rows of the cache, zeros behind `end`.
template <class T>
__device__ inline void LoadCache(const DecodeArguments<T>& a, int offset, int first_key, int end,
                                 float* tile) {
  for (int i = static_cast<int>(threadIdx.x); i < kTileKeys * a.head_size; i += kThreads) {
    const int row = i / a.head_size, column = i % a.head_size, key = first_key + row;
    tile[row * (a.head_size + 1) + column] = key < end ? ToFloat(CacheRow(a, key)[offset + column]) : 0.0f;
  }
}

// Block (kThreads) of grid (G, stretches).
template <class T>
UNIPOOL_KERNEL((kThreads), StretchKernel, DecodeArguments<T> a) {
  const int kv_head = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int d = a.head_size, group = a.num_heads / a.num_kv_heads;
  const int begin = static_cast<int>(blockIdx.y) * a.keys_of_stretch;
  const int end = min(a.num_keys, begin + a.keys_of_stretch);
  const DecodeShared at(group, d);
  float* const shared = DynamicShared<float>();
  float *query = shared + at.query, *tile = shared + at.tile, *scores = shared + at.scores;
  float *out = shared + at.out, *largest = shared + at.largest, *sum = shared + at.sum;
  float* factor = shared + at.factor;
  for (int i = thread; i < group * d; i += kThreads) {
    query[i] = ToFloat(a.qkv[kv_head * group * d + i]) * a.scale;
    out[i] = 0;
  }
  for (int h = thread; h < group; h += kThreads) {
    largest[h] = -INFINITY;
    sum[h] = 0;
  }
  const int key_offset = kv_head * d, value_offset = (a.num_kv_heads + kv_head) * d;
  if (end == a.num_keys) {  // this block alone touches the newest row's elements of this head
    T* row = a.cache + int64_t{end - 1} * 2 * a.num_kv_heads * d;
    for (int i = thread; i < d; i += kThreads) {
      row[key_offset + i] = CacheRow(a, end - 1)[key_offset + i];
      row[value_offset + i] = CacheRow(a, end - 1)[value_offset + i];
    }
  }
  for (int first = begin; first < end; first += kTileKeys) {
    __syncthreads();
    LoadCache(a, key_offset, first, end, tile);
    __syncthreads();
    for (int i = thread; i < group * kTileKeys; i += kThreads) {
      const int h = i / kTileKeys, key = i % kTileKeys;
      float score = 0;
      for (int k = 0; k < d; ++k) score += query[h * d + k] * tile[key * (d + 1) + k];
      scores[i] = first + key < end ? score : -INFINITY;
    }
    __syncthreads();
    for (int h = thread / kWarp; h < group; h += kThreads / kWarp) {
      float* row = scores + h * kTileKeys + thread % kWarp;
      const float left = row[0], right = row[kWarp];
      const float tile_largest = fmaxf(largest[h], WarpMax(fmaxf(left, right)));
      row[0] = expf(left - tile_largest);
      row[kWarp] = expf(right - tile_largest);
      const float tile_sum = WarpSum(row[0] + row[kWarp]);
      __syncwarp();  // all lanes have read largest[h]: shuffles do not order memory
      if (thread % kWarp == 0) {
        factor[h] = expf(largest[h] - tile_largest);
        sum[h] = sum[h] * factor[h] + tile_sum;
        largest[h] = tile_largest;
      }
    }
    LoadCache(a, value_offset, first, end, tile);
    __syncthreads();
    for (int i = thread; i < group * d; i += kThreads) {
      const int h = i / d, column = i % d;
      float value = out[i] * factor[h];
      for (int key = 0; key < kTileKeys; ++key)
        value += scores[h * kTileKeys + key] * tile[key * (d + 1) + column];
      out[i] = value;
    }
  }
  __syncthreads();
  float* partial = a.partial + (int64_t{blockIdx.y} * a.num_heads + kv_head * group) * (d + 2);
  for (int i = thread; i < group * d; i += kThreads) partial[i / d * (d + 2) + i % d] = out[i];
  for (int h = thread; h < group; h += kThreads) {
    partial[h * (d + 2) + d] = largest[h];
    partial[h * (d + 2) + d + 1] = sum[h];
  }
}

// Block (kThreads) of grid (H).
template <class T>
UNIPOOL_KERNEL((kThreads), JoinKernel, int num_heads, int head_size, int num_stretches, const float* partial,
               T* out) {
  const int d = head_size, stride = num_heads * (d + 2);
  partial += blockIdx.x * (d + 2);
  float largest = -INFINITY;
  for (int s = 0; s < num_stretches; ++s) largest = fmaxf(largest, partial[s * stride + d]);
  for (int i = static_cast<int>(threadIdx.x); i < d; i += kThreads) {
    float value = 0, sum = 0;
    for (int s = 0; s < num_stretches; ++s) {
      const float factor = expf(partial[s * stride + d] - largest);
      value += factor * partial[s * stride + i];
      sum += factor * partial[s * stride + d + 1];
    }
    out[blockIdx.x * d + i] = FromFloat<T>(value / sum);
  }
}

}  // namespace

void AttentionDecode(Stream& stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& cache,
                     int64_t position, const Tensor& out) {
  const int64_t num_keys = position + 1;
  const int64_t keys_of_stretch = KeysOfStretch(num_keys);
  const auto num_stretches = static_cast<unsigned>(CeilDiv(num_keys, keys_of_stretch));
  const auto num_heads = static_cast<unsigned>(shape.num_heads);
  const auto head_size = static_cast<int>(shape.head_size);
  float* partial = static_cast<float*>(
      stream.Scratch(AttentionDecodeScratchBytes(Device::kCuda, shape, qkv.dtype, num_keys)));
  DispatchDevice("AttentionDecode", qkv.dtype, [&]<class T>() {
    const DecodeArguments<T> arguments = {.num_heads = static_cast<int>(num_heads),
                                          .num_kv_heads = static_cast<int>(shape.num_kv_heads),
                                          .head_size = head_size,
                                          .num_keys = static_cast<int>(num_keys),
                                          .keys_of_stretch = static_cast<int>(keys_of_stretch),
                                          .scale = ViewOf<T>(shape).scale,
                                          .qkv = qkv.as<T>(),
                                          .cache = cache.as<T>(),
                                          .partial = partial};
    const DecodeShared shared(static_cast<int>(shape.num_heads / shape.num_kv_heads), head_size);
    Launch("AttentionDecode", &StretchKernel<T>,
           {.grid = dim3(static_cast<unsigned>(shape.num_kv_heads), num_stretches),
            .block = kThreads,
            .shared_bytes = shared.end * int64_t{sizeof(float)}},
           stream, arguments);
    Launch("AttentionDecode join", &JoinKernel<T>, {.grid = num_heads, .block = kThreads}, stream,
           arguments.num_heads, head_size, static_cast<int>(num_stretches), partial, out.as<T>());
  });
}

}  // namespace unipool::cuda
