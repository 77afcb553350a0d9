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
  FileSum sum;  // of its bytes
};

// Files of up to `max_bytes` each; a larger tensor has a file of its own. `weights` has all weights of the
// model, F32 in host memory. Returns the tensors in the order of the list. Throws UserError where a file
// cannot be written. REQUIRES: the folder exists.
std::vector<WrittenTensor> WriteHfShards(const std::string& folder, const std::vector<HfTensor>& tensors,
                                         const std::vector<DiskTensor>& weights, int64_t max_bytes);

}  // namespace unipool
