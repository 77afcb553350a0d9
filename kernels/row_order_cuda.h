// CUDA launcher of row_order.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"
#include "kernels/row_order.h"

UNIPOOL_CUDA_LAUNCHER(OrderRows, Stream& stream, const Tensor& experts, const Tensor& weights,
                      const Tensor& send_index, const RowOrder& order)
