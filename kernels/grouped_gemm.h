// One product per expert over its own rows. Group e owns rows [offsets[e], offsets[e+1]) of the row arrays,
// and may have no rows. E is the number of groups (experts on this rank), R the number of rows in all. O and
// I are the sizes of one expert's matrix [O, I].
// Example: offsets = {0, 2, 2, 5} are E = 3 experts with 2, 0 and 3 rows.
//
// Types: x, y, w and their gradients have one type. dw is in its accumulator (F32 for BF16), so that
// microbatches add up in F32. On the CPU F32 and F64. On a CUDA device F32 and BF16, with sums in F32. BF16
// on CUDA REQUIRES that O and I are multiples of 8 and that arrays begin at 16 bytes. `offsets` and
// `has_grad` are memory of the host on every device.
// BF16 on the CPU (BF16_CPU.md): of the two operands of a product one or both are BF16, the other one may be
// F32 and is rounded; the result is F32.
//
// Each product takes 2 R O I operations. It moves both row arrays once, R (O + I) elements. Of the expert
// matrices, O I elements each, it moves only those of groups with rows.
#pragma once

#include <span>

#include "runtime/stream.h"

namespace unipool {

// Of each of the products below, by at most num_experts experts with rows.
int64_t GroupedGemmScratchBytes(Device device, int64_t num_experts);

using GroupOffsets = std::span<const int64_t>;  // [E + 1], ascending, first 0, last R

// y[rows of e] = x[rows of e] * w[e]^T. Moves w[e] once.
void GroupedGemmForward(Stream& stream, GroupOffsets offsets, const Tensor& x /*[R, I]*/,
                        const Tensor& w /*[E, O, I]*/, const Tensor& y /*[R, O]*/);
// dx[rows of e] = dy[rows of e] * w[e]. Moves w[e] once.
void GroupedGemmInputGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy /*[R, O]*/,
                          const Tensor& w /*[E, O, I]*/, const Tensor& dx /*[R, I]*/);
// dw[e] += dy[rows of e]^T * x[rows of e]. has_grad[e] == 0 says that dw[e] holds nothing yet. Then dw[e] is
// overwritten and not read, which saves zeroing. has_grad[e] becomes 1 for every group with rows. Groups
// without rows are not touched. Moves dw[e] once where it is overwritten, twice where it is added to.
void GroupedGemmWeightGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy /*[R, O]*/,
                           const Tensor& x /*[R, I]*/, const Tensor& dw /*[E, O, I]*/,
                           std::span<uint8_t> has_grad /*[E]*/);

inline constexpr int kMostWeightGradSlots = 16;
// dw[e] += sum over slots s of dy[rows of e in s]^T * x[rows of e in s]. The rows of e in s are rows
// [slots[s][e], slots[s][e + 1]) of the row arrays. Each slots[s] is [E + 1] and ascending, within 0 and R.
// It need not begin at 0 or end at R, because the rows of several slots lie in one array, one slot behind the
// other.
// Example: slots[0] = {0, 2, 3} and slots[1] = {3, 3, 7} are 2 experts; expert 1 has row 2 and rows 3..6.
// To take a sub-range of the experts, pass that part of each slot's offsets, of dw and of has_grad.
// has_grad is as in GroupedGemmWeightGrad, where an expert has rows if it has rows in any slot. At most
// kMostWeightGradSlots slots.
// On the CPU, and in F32 on CUDA, the numbers are those of GroupedGemmWeightGrad for each slot in turn, bit
// for bit. BF16 on CUDA sums all slots before it touches dw[e].
// dw[e] moves as in one call for one slot (on the CPU in F32 and F64 once for every 512 rows; slots of O or I
// rows or more each by themselves), but in F32 on CUDA for each slot in which e has rows.
void GroupedGemmWeightGradOfSlots(Stream& stream, std::span<const GroupOffsets> slots,
                                  const Tensor& dy /*[R, O]*/, const Tensor& x /*[R, I]*/,
                                  const Tensor& dw /*[E, O, I]*/, std::span<uint8_t> has_grad /*[E]*/);

}  // namespace unipool
