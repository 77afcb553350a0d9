// Rows move between token order and expert order on one device. row_of[t, k] is the row of token t's k-th
// choice, or -1 where the choice has weight 0 and was not sent. Every row has exactly one (t, k).
#pragma once

#include "runtime/stream.h"

namespace unipool {

// dst[i] = src[index[i]].   Moves 2 * n * D elements.
void GatherRows(Stream& stream, const Tensor& src /*[*, D]*/, const Tensor& index /*[n] I32*/,
                const Tensor& dst /*[n, D]*/);
// dst[index[i]] = src[i].   The inverse of GatherRows for a permutation.
void ScatterRows(Stream& stream, const Tensor& src /*[n, D]*/, const Tensor& index /*[n] I32*/,
                 const Tensor& dst /*[*, D]*/);
// out[t] = residual[t] + sum_k weights[t, k] * rows[row_of[t, k]]      (the MoE output; k in order)
void CombineRows(Stream& stream, const Tensor& rows /*[N, D]*/, const Tensor& row_of /*[T, K] I32*/,
                 const Tensor& weights /*[T, K]*/, const Tensor& residual /*[T, D]*/,
                 const Tensor& out /*[T, D]*/);
// drows[row_of[t, k]] = weights[t, k] * dout[t];  dweights[t, k] = <dout[t], rows[row_of[t, k]]>, 0 where not
// sent.
void CombineRowsBackward(Stream& stream, const Tensor& dout /*[T, D]*/, const Tensor& rows /*[N, D]*/,
                         const Tensor& row_of, const Tensor& weights, const Tensor& drows /*[N, D]*/,
                         const Tensor& dweights /*[T, K]*/);
// out[t] += sum_k rows[row_of[t, k]]          (the gradient of the gather: a token's rows return)
void SumRows(Stream& stream, const Tensor& rows /*[N, D]*/, const Tensor& row_of,
             const Tensor& out /*[T, D]*/);

}  // namespace unipool
