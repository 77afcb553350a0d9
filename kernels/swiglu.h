// SwiGLU between the two products of an expert: a = silu(gate) * up. gate_up holds gate in columns [0, F) and
// up in columns [F, 2F). All tensors have one dtype: F32 or F64 on the CPU, F32 or BF16 (computed in F32) on
// CUDA. On the CPU dgate_up and activation, which only products read, may be BF16 where the rest is F32: each
// number is then rounded once.
#pragma once

#include "runtime/stream.h"

namespace unipool {

// Moves 3 R F elements.
void SwigluForward(Stream& stream, const Tensor& gate_up /*[R, 2F]*/, const Tensor& activation /*[R, F]*/);
// dgate_up is the gradient of gate_up. The activation is written again, because the weight gradient of the
// down projection needs it; that is one pass instead of two. Moves 6 R F elements.
void SwigluBackward(Stream& stream, const Tensor& gate_up /*[R, 2F]*/, const Tensor& dactivation /*[R, F]*/,
                    const Tensor& dgate_up /*[R, 2F]*/, const Tensor& activation /*[R, F]*/);

}  // namespace unipool
