#include "kernels/top_k.h"

#include <limits>

#include "kernels/check_tensor.h"
#include "kernels/vector_sum.h"

namespace unipool {
namespace {

// What is added to a score to make the key of the choice: the bias where visible, -infinity elsewhere.
// Returns the number of visible experts.
template <class T>
int64_t FillOffsets(int64_t num_experts, const T* bias, const T* visible, T* offsets) {
  int64_t num_visible = 0;
  for (int64_t i = 0; i < num_experts; ++i) {
    num_visible += visible[i] > 0;
    offsets[i] = visible[i] > 0 ? (bias ? bias[i] : T(0)) : -std::numeric_limits<T>::infinity();
  }
  return num_visible;
}

// The lowest index with the largest key. CHECK-fails when no key is a finite number (scores that are NaN).
template <class T, class Key>
int64_t ArgMax(int64_t n, Key key) {
  const T max = VectorMax<T>(n, key);
  CHECK_GT(max, -std::numeric_limits<T>::infinity()) << "no visible expert has a score that is a number";
  int32_t first = std::numeric_limits<int32_t>::max();
  for (int64_t i = 0; i < n; ++i) {
    const int32_t candidate = key(i) == max ? static_cast<int32_t>(i) : std::numeric_limits<int32_t>::max();
    first = candidate < first ? candidate : first;
  }
  return first;
}

// One token's experts, in falling order of their keys. `keys` is scratch of n elements.
template <class T>
void ChooseRow(int64_t n, int64_t top_k, const T* scores, const T* offsets, T* keys, int32_t* experts) {
  if (top_k == 1) {
    experts[0] = ArgMax<T>(n, [=](int64_t i) { return scores[i] + offsets[i]; });
    return;
  }
  for (int64_t i = 0; i < n; ++i) keys[i] = scores[i] + offsets[i];
  for (int64_t k = 0; k < top_k; ++k) {
    experts[k] = ArgMax<T>(n, [=](int64_t i) { return keys[i]; });
    keys[experts[k]] = -std::numeric_limits<T>::infinity();
  }
}

// Writes one token's weights and counts its choices; true if one of them is positive.
template <class T>
bool WeighRow(int64_t top_k, const T* scores, const int32_t* experts, T* weights, int64_t* counts) {
  bool positive = false;
  for (int64_t k = 0; k < top_k; ++k) {
    weights[k] = scores[experts[k]];
    positive |= weights[k] > 0;
    ++counts[experts[k]];
  }
  return positive;
}

}  // namespace

int64_t TopK(Stream& stream, const Tensor& scores, const Tensor& bias, const Tensor& visible,
             const Tensor& experts, const Tensor& weights, const Tensor& counts) {
  const int64_t num_tokens = scores.rows(), num_experts = scores.dim(1), top_k = experts.dim(1);
  CheckTensor("TopK scores", scores, scores.dtype, {num_tokens, num_experts});
  if (!bias.empty()) CheckTensor("TopK bias", bias, scores.dtype, {num_experts});
  CheckTensor("TopK visible", visible, scores.dtype, {num_experts});
  CheckTensor("TopK experts", experts, DType::kI32, {num_tokens, top_k});
  CheckTensor("TopK weights", weights, scores.dtype, {num_tokens, top_k});
  CheckTensor("TopK counts", counts, DType::kI64, {num_experts});
  KernelScope scope(stream, Op::kRouter, 2.0 * scores.size(),
                    scores.bytes() + (bias.empty() ? 0 : bias.bytes()) + visible.bytes() + experts.bytes() +
                        weights.bytes() + 2.0 * counts.bytes());
  int64_t num_off = 0;
  DispatchFloat(scores.dtype, [&]<class T>() {
    T* offsets = static_cast<T*>(stream.Scratch(2 * num_experts * sizeof(T)));
    T* keys = offsets + num_experts;
    const T* biases = bias.empty() ? nullptr : bias.as<T>();
    const int64_t num_visible = FillOffsets(num_experts, biases, visible.as<T>(), offsets);
    CHECK_LE(top_k, num_visible) << "top-k needs as many visible experts";
    for (int64_t t = 0; t < num_tokens; ++t) {
      const T* row = scores.as<T>() + t * num_experts;
      int32_t* chosen = experts.as<int32_t>() + t * top_k;
      ChooseRow(num_experts, top_k, row, offsets, keys, chosen);
      num_off += !WeighRow(top_k, row, chosen, weights.as<T>() + t * top_k, counts.as<int64_t>());
    }
  });
  return num_off;
}

}  // namespace unipool
