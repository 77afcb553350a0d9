// CUDA launchers of gemm.h and grouped_gemm.h: cuBLAS (kernels/cuda/blas.h). Shapes and types have been
// checked.
#pragma once

#include "kernels/cuda/launcher.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"

UNIPOOL_CUDA_LAUNCHER(Gemm, Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b,
                      float beta, const Tensor& c)
UNIPOOL_CUDA_LAUNCHER(GroupedGemmForward, Stream& stream, GroupOffsets offsets, const Tensor& x,
                      const Tensor& w, const Tensor& y)
UNIPOOL_CUDA_LAUNCHER(GroupedGemmInputGrad, Stream& stream, GroupOffsets offsets, const Tensor& dy,
                      const Tensor& w, const Tensor& dx)
// F32; BF16 is grouped_weight_grad_cuda.h.
UNIPOOL_CUDA_LAUNCHER(GroupedGemmWeightGrad, Stream& stream, GroupOffsets offsets, const Tensor& dy,
                      const Tensor& x, const Tensor& dw, std::span<uint8_t> has_grad)
