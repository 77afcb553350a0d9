// CUDA launcher of router_scores.h. Shapes and types have been checked.
#pragma once

#include "kernels/cuda/launcher.h"
#include "kernels/router_scores.h"

UNIPOOL_CUDA_LAUNCHER(RouterScoresBackward, Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                      const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                      const RouterScoreGrads& grads)
