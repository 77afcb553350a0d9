// Rows move between token order and expert order on one device. row_of[t, k] is the row of token t's k-th
// choice, or -1 where the choice has weight 0 and was not sent. Every row has exactly one (t, k). An index
// that names no row is a bug and ends the job.
// Types: F32 and F64 on the CPU, all tensors in one. On CUDA F32 and BF16, where what belongs to rows (rows,
// drows) and what belongs to tokens (residual, out, dout) may differ and is converted on the way; weights and
// dweights in AccumulatorOf(rows' type); sums are F32, rounded once.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// dst[i] = src[index[i]].   Moves n D elements of src, n D of dst and the index.
void GatherRows(Stream& stream, const Tensor& src /*[*, D]*/, const Tensor& index /*[n] I32*/,
                const Tensor& dst /*[n, D]*/);
// out[t] = residual[t] + sum_k weights[t, k] * rows[row_of[t, k]]      (the MoE output; k in order)
// residual may be the same memory as out. Moves N D elements of rows, 2 T D of tokens, weights and row_of.
void CombineRows(Stream& stream, const Tensor& rows /*[N, D]*/, const Tensor& row_of /*[T, K] I32*/,
                 const Tensor& weights /*[T, K]*/, const Tensor& residual /*[T, D]*/,
                 const Tensor& out /*[T, D]*/);
// drows[row_of[t, k]] = weights[t, k] * dout[t];  dweights[t, k] = <dout[t], rows[row_of[t, k]]>, 0 where not
// sent. drows may be the same memory as rows. Moves 2 N D elements of rows, T D of tokens, weights twice and
// row_of.
void CombineRowsBackward(Stream& stream, const Tensor& dout /*[T, D]*/, const Tensor& rows /*[N, D]*/,
                         const Tensor& row_of, const Tensor& weights, const Tensor& drows /*[N, D]*/,
                         const Tensor& dweights /*[T, K]*/);
// out[t] += sum_k rows[row_of[t, k]]          (the gradient of the gather: a token's rows return)
// Moves N D elements of rows, 2 T D of tokens and row_of.
void SumRows(Stream& stream, const Tensor& rows /*[N, D]*/, const Tensor& row_of,
             const Tensor& out /*[T, D]*/);

}  // namespace unipool
