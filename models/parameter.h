// What a rank holds of the model, under the names it has on disk. Three lists describe it to optimizer and
// checkpoint, so neither knows a layer: parameters (memory), disk tensors (weights by name) and optimizer
// pieces (moments by name).
#pragma once

#include <string>
#include <vector>

#include "runtime/range.h"
#include "runtime/tensor.h"

namespace unipool {

// A weight tensor as safetensors files name and shape it; `value` is its place in this rank's memory. A fused
// matrix in memory (q, k, v; gate and up) is several of these. Dense tensors are on every rank of their
// stage, an expert's on its owner in every replica; exactly one rank of the world has `writes` set.
struct DiskTensor {
  std::string name;
  std::vector<int64_t> shape;
  Tensor value;           // contiguous, shape's size
  bool writes = false;    // this rank writes it into checkpoints
  bool optional = false;  // may be missing in a folder to start from; then it keeps its initial value
};

// The AdamW moments of elements [elements.begin, elements.end) of the disk tensor `name` (row-major), held by
// this rank. Dense moments are sharded over the data ranks by element ranges; an expert's are with its owner.
struct OptimizerPiece {
  std::string name;
  Range elements;
  Tensor first_moment, second_moment;  // 1-D, elements.size()
  bool writes = false;
};

}  // namespace unipool
