// From the experts that tokens chose to the rows that travel. Rows are ordered by (place of the expert in the
// send order, token, k). Choices with weight 0 are not sent. It is a counting sort of integers, so every
// device gives the same.
// Example: T = 2 tokens choose K = 1 expert of M = 2 with weight 1, experts = {1, 0} and send_index = {0, 1}.
// Expert 0 comes first, so row_of = {1, 0}, token_of = {1, 0}, rows_of_expert = {1, 1}.
#pragma once

#include "runtime/stream.h"

namespace unipool {

struct RowOrder {
  Tensor row_of;          // [T, K] I32: row of each choice, -1 where not sent
  Tensor token_of;        // [T * K] I32: token of each row; the first N are written
  Tensor rows_of_expert;  // [M] I32, in send order
};
// weights are F32 or F64 on the CPU, F32 on CUDA. send_index[e] is the place of expert e in the send order, a
// permutation of 0..M-1. An expert outside [0, M) is a bug and ends the job. REQUIRES on CUDA: M <= 1024.
// Moves 2 T K + M numbers in and 2 T K + M out. On CUDA it is three launches.
void OrderRows(Stream& stream, const Tensor& experts /*[T, K] I32*/, const Tensor& weights /*[T, K]*/,
               const Tensor& send_index /*[M] I32*/, const RowOrder& order);
int64_t OrderRowsScratchBytes(Device device, int64_t num_choices /*T K*/, int64_t num_experts /*M*/);

}  // namespace unipool
