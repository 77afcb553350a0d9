// CUDA launcher of GroupedGemmWeightGradOfSlots for BF16, whose sums are F32: cuBLAS's grouped product writes
// its inputs' type only. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"
#include "kernels/grouped_gemm.h"

// One launch for as many experts as its arguments hold: 251 with rows in one slot, 100 with rows in 4 slots,
// 38 in 12. Reads dy and x once per tile of 256 x 128 (from the L2 cache, if an expert's rows fit), writes dw
// once, reads it where it is added to. At most 2^31 - 1 rows.
UNIPOOL_CUDA_LAUNCHER(GroupedWeightGradBf16, Stream& stream, std::span<const GroupOffsets> slots,
                      const Tensor& dy, const Tensor& x, const Tensor& dw, std::span<uint8_t> has_grad)
