// Whether a folder of weights fits a model. Everything that does not fit is named in one message.
#pragma once

#include <string>
#include <vector>

#include "launcher/checkpoints/weight_folder.h"
#include "models/parameter.h"
#include "runtime/communicator.h"

namespace unipool {

// A tensor that the model has.
struct WantedTensor {
  std::string name;
  std::vector<int64_t> shape;
  bool optional = false;
};

// The tensors of the whole model, each from the rank that writes it. Collective.
std::vector<WantedTensor> GatherWanted(Communicator& world, const std::vector<DiskTensor>& tensors);

// Throws UserError that names tensors which are missing, unknown, of another shape or of a type that cannot
// be read, 20 at most. `differences` is added as the likely cause, unless it is empty.
void CheckWeights(WeightFolder& folder, const std::vector<WantedTensor>& wanted,
                  const std::string& differences);

// A sentence when the model has biases of moe.balance BIAS and the folder has none; else "".
std::string MissingBiases(const WeightFolder& folder, const std::vector<WantedTensor>& wanted);

// The settings of model and moe in which two resolved settings differ: "model.hidden is 128 there and 256
// here, ...".
std::string DescribeDifferences(const std::string& there, const std::string& here);

// Whether a setting, by its path, changes what a model computes.
bool ChangesTheModel(const std::string& path);

// The settings of that kind in which two resolved settings differ: "moe.top_k is 1 there and 2 here, ...".
std::string ModelDifferences(const std::string& there, const std::string& here, const std::string& of_theirs,
                             const std::string& of_ours);

// Throws UserError when two resolved settings describe models that compute different things from equal
// tensors.
void CheckSameModel(const std::string& dir, const std::string& there, const std::string& here);

// The other settings in which a continued run differs from the run that saved, in the same words. The length
// of the run, its folder and its layout may differ and are left out.
std::string RunDifferences(const std::string& there, const std::string& here);

// A setting that both texts have, with different values.
struct SettingDifference {
  std::string path;        // "train.lr"
  std::string one, other;  // its values, as they stand in the texts; of a list "[a, b]"
};
// All settings in which two resolved settings differ, by path. Blocks may hold blocks, and lists may stand on
// a line or on several.
std::vector<SettingDifference> ListDifferences(const std::string& one, const std::string& other);

// The same as a sentence: "train.lr is 0.1 on rank 0 and 0.2 on rank 1, ...".
std::string SettingDifferences(const std::string& one, const std::string& other, const std::string& of_one,
                               const std::string& of_other);

// A heading, the first 20 problems below it, and how many more there are.
std::string ListOfProblems(const std::string& heading, const std::vector<std::string>& problems);

}  // namespace unipool
