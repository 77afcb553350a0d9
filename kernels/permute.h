// Rows move between token order and expert order on one device. row_of[t, k] is the row of token t's k-th
// choice. It is -1 where the choice has weight 0 and was not sent. Every row has exactly one (t, k). An index
// that names no row is a bug and ends the job.
//
// Permute copies tokens into rows, and Unpermute sums rows into tokens; each has its backward. What carries
// rows between ranks is dispatch and combine, of the floor above.
//
// Types on the CPU: all tensors F32, or all F64. Types on CUDA:
//   rows, drows            F32 or BF16
//   residual, out, dout    F32 or BF16, which may be another type than the rows'; numbers are converted
//   weights, dweights      AccumulatorOf(rows' type)
// Sums are F32 on CUDA and rounded once. Letters: README.md.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// dst[i] = src[index[i]].   Moves n D elements of src, n D of dst and the index.
void Permute(Stream& stream, const Tensor& src /*[*, D]*/, const Tensor& index /*[n] I32*/,
             const Tensor& dst /*[n, D]*/);
// out[t] = sum_k rows[row_of[t, k]]           (the gradient of Permute: a token's rows return; k in order)
// 0 for a token of which nothing was sent. Moves N D elements of rows, T D of tokens and row_of.
void PermuteBackward(Stream& stream, const Tensor& rows /*[N, D]*/, const Tensor& row_of /*[T, K] I32*/,
                     const Tensor& out /*[T, D]*/);
// out[t] = residual[t] + sum_k weights[t, k] * rows[row_of[t, k]]      (the MoE output; k in order)
// residual may be the same memory as out. Moves N D elements of rows, 2 T D of tokens, weights and row_of.
void Unpermute(Stream& stream, const Tensor& rows /*[N, D]*/, const Tensor& row_of /*[T, K] I32*/,
               const Tensor& weights /*[T, K]*/, const Tensor& residual /*[T, D]*/,
               const Tensor& out /*[T, D]*/);
// drows[row_of[t, k]] = weights[t, k] * dout[t]
// dweights[t, k] = <dout[t], rows[row_of[t, k]]>, and 0 where the choice was not sent
// drows may be the same memory as rows. Moves 2 N D elements of rows, T D of tokens, weights twice and
// row_of.
void UnpermuteBackward(Stream& stream, const Tensor& dout /*[T, D]*/, const Tensor& rows /*[N, D]*/,
                       const Tensor& row_of, const Tensor& weights, const Tensor& drows /*[N, D]*/,
                       const Tensor& dweights /*[T, K]*/);

}  // namespace unipool
