// CUDA launcher of router_forward.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"
#include "kernels/router_forward.h"

UNIPOOL_CUDA_LAUNCHER(RouterForward, Stream& stream, const RouterScoreSpec& spec, const RouterInputs& in,
                      const RouterOutputs& out)
