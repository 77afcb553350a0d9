// CUDA launcher of copy_segments.h. Sizes have been checked.
#pragma once

#include "kernels/copy_segments.h"
#include "kernels/cuda/launcher.h"

UNIPOOL_CUDA_LAUNCHER(CopySegments, Stream& stream, std::span<const Segment> segments)
