// What a rank holds of the model, under its names on disk. Two lists describe it to checkpoints, so that they
// know no layer: disk tensors (weights by name) and optimizer pieces (moments by name).
#pragma once

#include <string>
#include <vector>

#include "runtime/range.h"
#include "runtime/tensor.h"

namespace unipool {

// A weight tensor as safetensors files name and shape it. A fused matrix in memory (q, k, v; gate and up) is
// several disk tensors. Dense tensors are on every rank of their stage, an expert's tensors on its owner in
// every replica. Exactly one rank of the world has `writes` set.
struct DiskTensor {
  std::string name;
  std::vector<int64_t> shape;
  Tensor value;           // its place in this rank's memory, contiguous
  bool writes = false;    // this rank writes it into checkpoints
  bool optional = false;  // a folder to start from may lack it; then it keeps its initial value
  bool implied = false;   // it is what the settings say: checkpoints leave it out

  bool is_saved() const { return writes && !implied; }
};

// The AdamW moments of elements [elements.begin, elements.end) of the disk tensor `name` (row-major), which
// this rank holds. Dense moments are sharded over the data ranks by ranges of elements. An expert's moments
// are with its owner.
struct OptimizerPiece {
  std::string name;
  Range elements;
  Tensor first_moment, second_moment;  // 1-D, elements.size()
  bool writes = false;
};

}  // namespace unipool
