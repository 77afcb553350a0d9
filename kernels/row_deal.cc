#include "kernels/row_deal.h"

#include <algorithm>

#include "kernels/check_tensor.h"
#include "kernels/cuda/launchers.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// Rows of an expert's copies until one of them.
int32_t Until(int64_t rows, int64_t end_units, int64_t d) {
  return static_cast<int32_t>((rows * end_units + d) / kDealUnits);
}

}  // namespace

int64_t DealRowsScratchBytes(int64_t num_experts, int64_t num_copies, int64_t num_places) {
  return (num_experts + 2 * num_copies + num_places) * int64_t{sizeof(int32_t)};
}

void DealRows(Stream& stream, const RowDeal& deal, const Tensor& experts, int64_t turn, const RowOrder& order,
              const Tensor& rows_of_place) {
  const int64_t m = deal.first_copy.rows() - 1, c = deal.place.rows(), p = rows_of_place.rows();
  const int64_t num_choices = experts.size(), top_k = experts.dim(1);
  CheckTensor("DealRows first_copy", deal.first_copy, DType::kI32, {m + 1});
  CheckTensor("DealRows place", deal.place, DType::kI32, {c});
  CheckTensor("DealRows end", deal.end, DType::kI32, {c});
  CheckTensor("DealRows experts", experts, DType::kI32, {experts.rows(), top_k});
  CheckTensor("DealRows row_of", order.row_of, DType::kI32, {experts.rows(), top_k});
  CheckTensor("DealRows token_of", order.token_of, DType::kI32, {num_choices});
  CheckTensor("DealRows rows_of_expert", order.rows_of_expert, DType::kI32, {m});
  CheckTensor("DealRows rows_of_place", rows_of_place, DType::kI32, {p});
  KernelScope scope(stream, Op::kPermute, 0, 4.0 * experts.bytes() + 3.0 * deal.place.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::DealRows(stream, deal, experts, turn, order, rows_of_place);
  }

  const auto *first_copy = deal.first_copy.as<int32_t>(), *place = deal.place.as<int32_t>(),
             *end = deal.end.as<int32_t>(), *rows_of_expert = order.rows_of_expert.as<int32_t>(),
             *expert_of = experts.as<int32_t>();
  auto *row_of = order.row_of.as<int32_t>(), *token_of = order.token_of.as<int32_t>(),
       *rows = rows_of_place.as<int32_t>();
  auto* const first_row = static_cast<int32_t*>(stream.Scratch(DealRowsScratchBytes(m, c, p)));  // [M]
  int32_t* const until = first_row + m;  // [C] of the expert's rows those of the copies until this one
  int32_t* const shift = until + c;      // [C] from an expert's order to the order of places
  int32_t* const begin = shift + c;      // [P] first row of each place

  std::fill_n(rows, p, 0);
  int32_t all = 0;
  for (int64_t e = 0; e < m; ++e) {
    const int64_t d = (turn * 159 + e * 83) % kDealUnits;
    first_row[e] = all;
    int32_t before = 0;
    for (int32_t i = first_copy[e]; i < first_copy[e + 1]; ++i) {
      until[i] = Until(rows_of_expert[e], end[i], d);
      CHECK(place[i] >= 0 && place[i] < p) << "expert " << e << " has place " << place[i] << " of " << p;
      rows[place[i]] = until[i] - before;
      before = until[i];
    }
    CHECK_EQ(before, rows_of_expert[e]) << "the copies of expert " << e << " have all its rows";
    all += rows_of_expert[e];
  }
  int32_t next = 0;
  for (int64_t i = 0; i < p; ++i) {
    begin[i] = next;
    next += rows[i];
  }
  for (int64_t e = 0; e < m; ++e) {
    int32_t before = 0;
    for (int32_t i = first_copy[e]; i < first_copy[e + 1]; ++i) {
      shift[i] = begin[place[i]] - before - first_row[e];
      before = until[i];
    }
  }
  for (int64_t choice = 0; choice < num_choices; ++choice) {
    if (row_of[choice] < 0) continue;
    const int32_t e = expert_of[choice];
    int32_t copy = first_copy[e];
    while (row_of[choice] - first_row[e] >= until[copy]) ++copy;
    row_of[choice] += shift[copy];
    token_of[row_of[choice]] = static_cast<int32_t>(choice / top_k);
  }
}

}  // namespace unipool
