// Cosines and sines of the rotary embedding, shared by all layers of a rank.
#pragma once

#include "models/model_spec.h"
#include "runtime/device_context.h"

namespace unipool {

struct RopeTables {
  // Memory of `device`, or with null of the host, which `memory` counts. Their type is AccumulatorOf(dtype).
  RopeTables(const ModelSpec& spec, DType dtype, DeviceContext* device, MemoryMeter& memory);

  Buffer buffer;
  Tensor cos, sin;  // [s, d/2]
};

}  // namespace unipool
