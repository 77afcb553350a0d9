#include "kernels/top_k.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/check_tensor.h"
#include "kernels/cpu/vector_reduce.h"

namespace unipool {
namespace {

// Rows of keys are padded with -infinity to whole vectors, so that no search has a tail.
template <class T>
int64_t PaddedSize(int64_t num_experts) {
  return (num_experts + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// Where a layer sees few experts, the search is over these columns of the scores alone. They rise, so that
// ties still go to the lower index. Returns their number.
template <class T>
int64_t FillColumns(int64_t num_experts, const T* visible, int32_t* columns) {
  int64_t num_visible = 0;
  for (int64_t i = 0; i < num_experts; ++i) {
    if (visible[i] > 0) columns[num_visible++] = static_cast<int32_t>(i);
  }
  return num_visible;
}

// What is added to a score to make the key of the choice: the bias where visible, -infinity elsewhere.
template <class T>
void FillOffsets(int64_t num_experts, const T* bias, const T* visible, T* offsets) {
  for (int64_t i = 0; i < num_experts; ++i)
    offsets[i] = visible[i] > 0 ? (bias ? bias[i] : T(0)) : -std::numeric_limits<T>::infinity();
}

// The numbers of a vector's lanes: 0, 1, 2, ...
template <class T>
auto LaneNumbers() {
  decltype(Vec<T>{} < Vec<T>{}) numbers;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) numbers[lane] = lane;
  return numbers;
}

// The lowest index with the largest key, or -1 if no key is a number; the key of `taken` becomes -infinity
// first. Not inlined: beside the calls of a CHECK the compiler would keep the running best in memory, not in
// registers.
template <class T>
[[gnu::noinline]] int64_t ArgMax(int64_t padded_size, T* keys, int64_t taken) {
  using Index = decltype(LaneNumbers<T>());
  using Int = std::remove_cvref_t<decltype(Index{}[0])>;
  const Vec<T> lowest = Broadcast(-std::numeric_limits<T>::infinity());
  Vec<T> best = lowest;
  Index index = LaneNumbers<T>(), best_index = index;
  for (int64_t i = 0; i < padded_size; i += kLanes<T>) {
    Vec<T> key = Load(keys + i);
    key = index == static_cast<Int>(taken) ? lowest : key;
    Store(keys + i, key);
    const auto larger = key > best;  // strictly: the lane keeps its lowest index
    best = larger ? key : best;
    best_index = larger ? index : best_index;
    index += static_cast<Int>(kLanes<T>);
  }
  const T max = FoldLanes<T>(best, [](const auto& a, const auto& b) { return a < b ? b : a; });
  if (!(max > -std::numeric_limits<T>::infinity())) return -1;
  const Index candidates = best == max ? best_index : Broadcast(std::numeric_limits<Int>::max());
  return FoldLanes<Int>(candidates, [](const auto& a, const auto& b) { return a < b ? a : b; });
}

// The lowest visible expert that is not among the first `num_chosen` of `experts`. REQUIRES: there is one.
template <class T>
int64_t LowestFree(const T* visible, int64_t num_chosen, const int32_t* experts) {
  int64_t i = 0;
  while (!(visible[i] > 0) || std::find(experts, experts + num_chosen, i) != experts + num_chosen) ++i;
  return i;
}

// The keys of one token's choice. With kPositiveScores, visible experts without a positive score share the
// lowest number.
template <class T>
void FillKeys(int64_t n, const T* scores, const T* offsets, BiasReach reach, const T* visible, T* keys) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) keys[i] = scores[i] + offsets[i];
  if (reach == BiasReach::kEveryScore) return;
  constexpr T kLast = std::numeric_limits<T>::lowest();
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    keys[i] = visible[i] > 0 && !(scores[i] > 0) ? kLast : keys[i];
  }
}

// One token's experts, in falling order of their keys; then those whose keys are no numbers.
template <class T>
void ChooseRow(int64_t n, int64_t top_k, const T* scores, const T* offsets, BiasReach reach, const T* visible,
               T* keys, int32_t* experts) {
  FillKeys(n, scores, offsets, reach, visible, keys);
  int64_t taken = -1;
  for (int64_t k = 0; k < top_k; ++k) {
    taken = ArgMax(PaddedSize<T>(n), keys, taken);
    if (taken < 0) taken = LowestFree(visible, k, experts);
    experts[k] = static_cast<int32_t>(taken);
  }
}

// ChooseRow over n columns of the scores.
template <class T>
void ChooseRowOfColumns(int64_t n, int64_t top_k, const T* scores, const T* offsets, BiasReach reach,
                        const T* visible, const int32_t* columns, T* keys, int32_t* experts) {
  const bool positive_first = reach == BiasReach::kPositiveScores;
  for (int64_t j = 0; j < n; ++j) {
    const T score = scores[columns[j]];
    keys[j] = positive_first && !(score > 0) ? std::numeric_limits<T>::lowest() : score + offsets[columns[j]];
  }
  int64_t taken = -1;
  for (int64_t k = 0; k < top_k; ++k) {
    taken = ArgMax(PaddedSize<T>(n), keys, taken);
    if (taken < 0) {
      experts[k] = static_cast<int32_t>(LowestFree(visible, k, experts));
      continue;
    }
    experts[k] = columns[taken];
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

int64_t TopKScratchBytes(DType dtype, int64_t num_experts) {
  int64_t count = num_experts;
  DispatchFloat(dtype, [&]<class T>() { count += PaddedSize<T>(num_experts); });
  return count * SizeOf(dtype) + num_experts * int64_t{sizeof(int32_t)};
}

int64_t TopK(Stream& stream, const Tensor& scores, const ChoiceBias& bias, const Tensor& visible,
             const Tensor& experts, const Tensor& weights, const Tensor& counts) {
  CHECK(stream.device() == Device::kCpu) << "TopK has no CUDA kernel of its own: RouterForward contains it";
  const int64_t num_tokens = scores.rows(), num_experts = scores.dim(1), top_k = experts.dim(1);
  CheckTensor("TopK scores", scores, scores.dtype, {num_tokens, num_experts});
  if (!bias.values.empty()) CheckTensor("TopK bias", bias.values, scores.dtype, {num_experts});
  CheckTensor("TopK visible", visible, scores.dtype, {num_experts});
  CheckTensor("TopK experts", experts, DType::kI32, {num_tokens, top_k});
  CheckTensor("TopK weights", weights, scores.dtype, {num_tokens, top_k});
  CheckTensor("TopK counts", counts, DType::kI64, {num_experts});
  KernelScope scope(stream, Op::kRouter, 2.0 * scores.size(),
                    scores.bytes() + (bias.values.empty() ? 0 : bias.values.bytes()) + visible.bytes() +
                        experts.bytes() + weights.bytes() + 2.0 * counts.bytes());
  int64_t num_off = 0;
  DispatchFloat(scores.dtype, [&]<class T>() {
    const int64_t padded_size = PaddedSize<T>(num_experts);
    T* keys = static_cast<T*>(stream.Scratch(TopKScratchBytes(scores.dtype, num_experts)));
    T* offsets = keys + padded_size;
    std::fill(keys, keys + padded_size, -std::numeric_limits<T>::infinity());
    const T* biases = bias.values.empty() ? nullptr : bias.values.as<T>();
    auto* columns = reinterpret_cast<int32_t*>(offsets + num_experts);
    FillOffsets(num_experts, biases, visible.as<T>(), offsets);
    const int64_t num_visible = FillColumns(num_experts, visible.as<T>(), columns);
    const bool sees_few = 2 * num_visible <= num_experts;
    CHECK_LE(top_k, num_visible) << "top-k needs as many visible experts";
    for (int64_t t = 0; t < num_tokens; ++t) {
      const T* row = scores.as<T>() + t * num_experts;
      int32_t* chosen = experts.as<int32_t>() + t * top_k;
      if (sees_few)
        ChooseRowOfColumns(num_visible, top_k, row, offsets, bias.reach, visible.as<T>(), columns, keys,
                           chosen);
      else
        ChooseRow(num_experts, top_k, row, offsets, bias.reach, visible.as<T>(), keys, chosen);
      num_off += !WeighRow(top_k, row, chosen, weights.as<T>() + t * top_k, counts.as<int64_t>());
    }
  });
  return num_off;
}

}  // namespace unipool
