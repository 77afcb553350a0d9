// Writes the weights of an exported model: model.safetensors, or model-0000i-of-0000n.safetensors with
// model.safetensors.index.json.
#pragma once

#include <string>
#include <vector>

#include "launcher/interop/hf_tensors.h"
#include "models/parameter.h"
#include "runtime/file_sum.h"

namespace unipool {

// What became of one tensor.
struct WrittenTensor {
  std::string name, file;
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;  // in the file
  FileSum sum;                // of its bytes
};

struct HfShardOptions {
  int64_t max_bytes = 0;      // of a file; a larger tensor has a file of its own
  DType dtype = DType::kF32;  // kBF16: rounded to the nearest (bf16_rounding.h), but for HfTensor::keeps_f32
};

// `weights` has all weights of the model, F32 in host memory. Returns the tensors in the order of the list.
// Throws UserError where a file cannot be written, or a number is too large for BF16. REQUIRES: the folder
// exists.
std::vector<WrittenTensor> WriteHfShards(const std::string& folder, const std::vector<HfTensor>& tensors,
                                         const std::vector<DiskTensor>& weights,
                                         const HfShardOptions& options);

}  // namespace unipool
