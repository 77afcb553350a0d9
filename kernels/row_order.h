// From the experts that tokens chose to the rows that travel: rows are ordered by (place of the expert in the
// send order, token, k), and choices with weight 0 are not sent. A counting sort; integers alone, so equal on
// every device.
#pragma once

#include "runtime/stream.h"

namespace unipool {

struct RowOrder {
  Tensor row_of;          // [T, K] I32: row of each choice, -1 where not sent
  Tensor token_of;        // [T * K] I32: token of each row; the first N are written
  Tensor rows_of_expert;  // [M] I32, in send order
};
// weights F32 or F64 on the CPU, F32 on CUDA. send_index[e] is the place of expert e in the send order: a
// permutation of 0..M-1. An expert outside [0, M) is a bug and ends the job. REQUIRES on CUDA: M <= 1024.
// Moves 2 T K + M numbers in, 2 T K + M out; on CUDA in three launches, with scratch memory for M numbers per
// 2048 choices.
void OrderRows(Stream& stream, const Tensor& experts /*[T, K] I32*/, const Tensor& weights /*[T, K]*/,
               const Tensor& send_index /*[M] I32*/, const RowOrder& order);

}  // namespace unipool
