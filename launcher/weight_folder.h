// A folder of safetensors as people exchange models: model.safetensors, or shards with or without an index.
// Opens (maps) only the files that are asked for.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/tensor_file.h"

namespace unipool {

inline constexpr char kWeightIndexFile[] = "model.safetensors.index.json";

std::string WeightFile(const std::string& dir, int i,
                       int num_files);  // model-00001-of-00004.safetensors for i = 0
std::string OptimizerFile(const std::string& dir, int i,
                          int num_files);  // optimizer-00001-of-00004.safetensors

class WeightFolder {
 public:
  // Throws UserError when there is no such folder, nothing to read in it, or the index is damaged.
  explicit WeightFolder(std::string dir);

  const std::string& dir() const { return dir_; }
  std::vector<std::string> Names() const;  // of all tensors, sorted
  bool Has(const std::string& name) const { return file_of_.count(name) > 0; }
  // REQUIRES: Has(name). Throw UserError when the file is missing, damaged or lacks the tensor.
  const TensorFileEntry& Entry(const std::string& name);
  void Read(const std::string& name, const Tensor& out);  // REQUIRES: out has the entry's size
  void OpenAll();

 private:
  void ReadIndex(const std::string& path);
  const TensorFileReader& Open(const std::string& file);

  std::string dir_;
  std::map<std::string, std::string> file_of_;  // tensor name -> file name
  std::map<std::string, std::unique_ptr<TensorFileReader>> readers_;
};

}  // namespace unipool
