// CUDA launcher of adamw.h. Shapes and types have been checked.
#pragma once

#include "kernels/adamw.h"
#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(AdamWGroup, Stream& stream, const AdamWArgs& args, std::span<const AdamWTensors> group)
