#include "kernels/row_order.h"

#include <algorithm>
#include <utility>

#include "kernels/check_tensor.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/scratch.h"

namespace unipool {
namespace {

constexpr int64_t kMostOrderedExperts = 1024;

// rows_of_expert serves as the cursor of each expert: first its count, then its first row, after the placing
// its end, and at last its count again.
class CountingSort {
 public:
  CountingSort(const Tensor& experts, const Tensor& send_index, const RowOrder& order)
      : num_experts_(send_index.rows()),
        top_k_(experts.dim(1)),
        experts_(experts.as<int32_t>()),
        send_index_(send_index.as<int32_t>()),
        row_of_(order.row_of.as<int32_t>()),
        token_of_(order.token_of.as<int32_t>()),
        cursor_(order.rows_of_expert.as<int32_t>()) {}

  template <class T>
  void Sort(const T* weights, int64_t num_choices) {
    std::fill_n(cursor_, num_experts_, 0);
    for (int64_t choice = 0; choice < num_choices; ++choice) {
      const int64_t place = PlaceOf(choice);
      if (weights[choice] != 0) ++cursor_[place];
    }
    int32_t first = 0;
    for (int64_t i = 0; i < num_experts_; ++i) first += std::exchange(cursor_[i], first);
    for (int64_t choice = 0; choice < num_choices; ++choice) {
      row_of_[choice] = -1;
      if (weights[choice] == 0) continue;
      const int32_t row = cursor_[PlaceOf(choice)]++;
      row_of_[choice] = row;
      token_of_[row] = static_cast<int32_t>(choice / top_k_);
    }
    for (int64_t i = num_experts_; i-- > 1;) cursor_[i] -= cursor_[i - 1];
  }

 private:
  int64_t PlaceOf(int64_t choice) const {
    const int32_t expert = experts_[choice];
    CHECK(expert >= 0 && expert < num_experts_) << "expert " << expert << " of " << num_experts_;
    const int32_t place = send_index_[expert];
    CHECK(place >= 0 && place < num_experts_)
        << "expert " << expert << " is sent at place " << place << " of " << num_experts_;
    return place;
  }

  int64_t num_experts_, top_k_;
  const int32_t *experts_, *send_index_;
  int32_t *row_of_, *token_of_, *cursor_;
};

}  // namespace

int64_t OrderRowsScratchBytes(Device device, int64_t num_choices, int64_t num_experts) {
  if (device != Device::kCuda) return 0;
  return cuda::CeilDiv(num_choices, cuda::kOrderChunk) * num_experts * int64_t{sizeof(int32_t)};
}

void OrderRows(Stream& stream, const Tensor& experts, const Tensor& weights, const Tensor& send_index,
               const RowOrder& order) {
  const int64_t num_tokens = experts.rows(), top_k = experts.dim(1), num_experts = send_index.rows();
  CheckTensor("OrderRows experts", experts, DType::kI32, {num_tokens, top_k});
  CheckTensor("OrderRows weights", weights, weights.dtype, {num_tokens, top_k});
  CheckTensor("OrderRows send_index", send_index, DType::kI32, {num_experts});
  CheckTensor("OrderRows row_of", order.row_of, DType::kI32, {num_tokens, top_k});
  CheckTensor("OrderRows token_of", order.token_of, DType::kI32, {num_tokens * top_k});
  CheckTensor("OrderRows rows_of_expert", order.rows_of_expert, DType::kI32, {num_experts});
  CHECK_LT(experts.size(), int64_t{1} << 31) << "rows are numbered in 32 bits";
  KernelScope scope(stream, Op::kPermute, 0,
                    3.0 * experts.bytes() + weights.bytes() + 2.0 * order.rows_of_expert.bytes());
  if (stream.device() == Device::kCuda) {
    CHECK(weights.dtype == DType::kF32) << "OrderRows on CUDA: weights are " << NameOf(weights.dtype);
    CHECK_LE(num_experts, kMostOrderedExperts) << "OrderRows on CUDA takes at most that many experts";
    return cuda::OrderRows(stream, experts, weights, send_index, order);
  }
  CountingSort sort(experts, send_index, order);
  DispatchFloat(weights.dtype, [&]<class T>() { sort.Sort(weights.as<T>(), weights.size()); });
}

}  // namespace unipool
