// Does a folder of weights fit a model? Everything that does not is named in one message.
#pragma once

#include <string>
#include <vector>

#include "launcher/weight_folder.h"
#include "models/parameter.h"
#include "runtime/communicator.h"

namespace unipool {

struct WantedTensor {
  std::string name;
  std::vector<int64_t> shape;
  bool optional = false;
};

// The tensors of the whole model, each from the rank that writes it. Collective.
std::vector<WantedTensor> GatherWanted(Communicator& world, const std::vector<DiskTensor>& tensors);

// Throws UserError naming missing, unknown and misshaped tensors and types that cannot be read, 20 at most.
// `differences` (may be empty) is added as the likely cause.
void CheckWeights(WeightFolder& folder, const std::vector<WantedTensor>& wanted,
                  const std::string& differences);

// A sentence when the model has aux-free biases (moe.balance BIAS) and the folder does not; else "".
std::string MissingBiases(const WeightFolder& folder, const std::vector<WantedTensor>& wanted);

// The settings of model and moe in which two resolved settings differ, as "model.hidden is 128 there and 256
// here; ...".
std::string DescribeDifferences(const std::string& there, const std::string& here);

// Throws UserError when two resolved settings describe models that compute different things from equal
// tensors.
void CheckSameModel(const std::string& dir, const std::string& there, const std::string& here);

// The other settings in which a continued run differs from the one that saved, in the same words; its length
// and layout aside.
std::string RunDifferences(const std::string& there, const std::string& here);

// A heading and the first 20 problems below it, and how many more there are.
std::string ListOfProblems(const std::string& heading, const std::vector<std::string>& problems);

}  // namespace unipool
