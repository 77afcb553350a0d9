// Deals the rows of experts that have several copies. OrderRows (row_order.h) has ordered them by expert.
// Here they are ordered by place, and each copy of an expert gets a run of its rows by their order: a fixed
// share. It is arithmetic of integers, so every device gives the same, in every run.
//
// Of the n rows of an expert, the copies until the i-th get (n * end_i + d) / kDealUnits rows together,
// rounded down. end_i are the units of these copies; d in [0, kDealUnits) rounds few rows now up and now
// down: d = (turn * 159 + expert * 83) modulo kDealUnits. 159 is odd and next to its golden section.
//   Example: an expert has 5 rows and two copies with 128 units each, d = 0. The first gets rows 0 and 1, the
//   second rows 2, 3 and 4.
#pragma once

#include "kernels/row_order.h"

namespace unipool {

inline constexpr int kDealUnits = 256;

struct RowDeal {
  // [M + 1] I32: expert e has the copies first_copy[e] .. first_copy[e + 1] - 1, at least one.
  Tensor first_copy;
  Tensor place;  // [C] I32: of a copy, in [0, P); no two have the same
  Tensor end;    // [C] I32: units of the expert's copies until this one; kDealUnits for its last
};

// `order` as of OrderRows with send_index[e] = e. Changes row_of and token_of, and writes how many rows each
// place has; places without a copy have none. `turn` >= 0: which exchange it is, see above.
// On CUDA it is two launches. Moves 4 T K + 3 C + P numbers.
void DealRows(Stream& stream, const RowDeal& deal, const Tensor& experts /*[T, K] I32*/, int64_t turn,
              const RowOrder& order, const Tensor& rows_of_place /*[P] I32*/);
int64_t DealRowsScratchBytes(int64_t num_experts /*M*/, int64_t num_copies /*C*/, int64_t num_places /*P*/);

}  // namespace unipool
