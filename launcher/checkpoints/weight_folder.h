// A folder of safetensors as people exchange models: model.safetensors, or shards with or without an index. A
// file is opened, as mapped memory, when one of its tensors is asked for.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/tensor_file.h"

namespace unipool {

inline constexpr char kWeightIndexFile[] = "model.safetensors.index.json";

// Paths in `dir`. For i = 0 of 4: model-00001-of-00004.safetensors, optimizer-00001-of-00004.safetensors. The
// only file of weights is model.safetensors.
std::string WeightFile(const std::string& dir, int i, int num_files);
std::string OptimizerFile(const std::string& dir, int i, int num_files);

class WeightFolder {
 public:
  // Throws UserError when there is no such folder, it holds nothing to read, or its index is damaged.
  explicit WeightFolder(std::string dir);

  const std::string& dir() const { return dir_; }
  std::vector<std::string> Names() const;  // of all tensors, sorted
  bool Has(const std::string& name) const { return file_of_.contains(name); }
  std::string FileOf(const std::string& name) const;  // path of the file with the tensor; "" if not Has(name)
  // Entry, Read and OpenAll throw UserError when a file is missing or damaged, or lacks the tensor that the
  // index says. REQUIRES: Has(name); for Read also: `out` has as many elements as the entry. Read converts to
  // the type of `out`.
  const TensorFileEntry& Entry(const std::string& name);
  void Read(const std::string& name, const Tensor& out);
  void OpenAll();

 private:
  void ReadIndex(const std::string& path);
  const TensorFileReader& Open(const std::string& file);

  std::string dir_;
  std::map<std::string, std::string> file_of_;  // tensor name -> file name
  std::map<std::string, std::unique_ptr<TensorFileReader>> readers_;
};

}  // namespace unipool
