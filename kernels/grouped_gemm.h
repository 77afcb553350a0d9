// One product per expert over its own rows. Group e owns rows [offsets[e], offsets[e+1]) of the row arrays;
// groups may have 0 rows. E = groups (experts on this rank), R = rows in all, I/O = inner sizes of the expert
// matrix [O, I].
//
// Types: x, y, w and their gradients are of one type; dw is of its accumulator (F32 for BF16), so that
// microbatches add up in F32. On the CPU: F32 and F64. On a CUDA device: F32 and BF16, sums in F32; BF16
// REQUIRES O and I to be multiples of 8 and arrays that begin at 16 bytes. `offsets` and `has_grad` are host
// memory on every device.
//
// Each product takes 2 R O I operations and moves both row arrays, R (O + I) elements, once; of the expert
// matrices, O I elements each, only those of groups with rows.
#pragma once

#include <span>

#include "runtime/stream.h"

namespace unipool {

using GroupOffsets = std::span<const int64_t>;  // [E + 1], ascending, first 0, last R

// y[rows of e] = x[rows of e] * w[e]^T. Moves w[e] once.
void GroupedGemmForward(Stream& stream, GroupOffsets offsets, const Tensor& x /*[R, I]*/,
                        const Tensor& w /*[E, O, I]*/, const Tensor& y /*[R, O]*/);
// dx[rows of e] = dy[rows of e] * w[e]. Moves w[e] once.
void GroupedGemmInputGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy /*[R, O]*/,
                          const Tensor& w /*[E, O, I]*/, const Tensor& dx /*[R, I]*/);
// dw[e] += dy[rows of e]^T * x[rows of e]. has_grad[e] == 0 says that dw[e] holds nothing yet: it is
// overwritten, not read, which saves zeroing; has_grad[e] becomes 1 for every group with rows. Groups without
// rows are not touched. Moves dw[e] once where it is overwritten, twice where it is added to.
void GroupedGemmWeightGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy /*[R, O]*/,
                           const Tensor& x /*[R, I]*/, const Tensor& dw /*[E, O, I]*/,
                           std::span<uint8_t> has_grad /*[E]*/);

inline constexpr int kMostWeightGradSlots = 16;
// dw[e] += sum over slots s of dy[rows of e in s]^T * x[rows of e in s]; rows of e in s are
// [slots[s][e], slots[s][e + 1]) of the row arrays. Each slots[s] is [E + 1], ascending, within 0 and R, and
// need not begin at 0 or end at R: the rows of several slots lie in one array, one slot behind the other, and
// a sub-span of a slot's offsets with the same part of dw and has_grad is a sub-range of its experts.
// has_grad as in GroupedGemmWeightGrad, where an expert has rows if it has them in any slot. At most
// kMostWeightGradSlots slots.
// BF16 on CUDA sums all slots of an expert before it touches dw[e]: dw[e] moves as in one call for one slot.
// Otherwise the same numbers, bit for bit, as GroupedGemmWeightGrad for each slot in turn, and dw[e] moves
// for each slot in which e has rows.
void GroupedGemmWeightGradOfSlots(Stream& stream, std::span<const GroupOffsets> slots,
                                  const Tensor& dy /*[R, O]*/, const Tensor& x /*[R, I]*/,
                                  const Tensor& dw /*[E, O, I]*/, std::span<uint8_t> has_grad /*[E]*/);

}  // namespace unipool
