// Weights of a folder of Hugging Face's transformers, as weights of ours by their names.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launcher/experts/saved_model.h"
#include "launcher/interop/hf_folder.h"
#include "launcher/interop/hf_settings.h"

namespace unipool {

struct HfWeights {
  std::map<std::string, SavedModel::Weight> weights;  // with moments that are zero, where they have some
  std::vector<std::string> notes;                     // what was left out or made, a sentence each
};

// All weights of the model, F32, bit for bit where the files hold F32, and exact from BF16 and F16. Rows of a
// router for experts that its layer does not see are 0 where the files lack them. Throws UserError that names
// the tensors which are missing, unknown, misshaped, of another type or not finite, or hold what our models
// have not: a shared expert or biases that are not zero, another visibility than the settings say.
HfWeights ReadHfWeights(HfFolder& folder, const HfModel& model);

}  // namespace unipool
