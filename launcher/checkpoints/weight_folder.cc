#include "launcher/checkpoints/weight_folder.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

constexpr char kRemedy[] =
    "; copy the folder again, or remove the index: then all safetensors files of the folder are read";

std::string NumberedFile(const std::string& dir, const char* kind, int i, int num_files) {
  return (fs::path(dir) / Format("%s-%05d-of-%05d.safetensors", kind, i + 1, num_files)).string();
}

// Files that may hold weights, by name: all *.safetensors but the optimizer's.
std::vector<std::string> WeightFilesIn(const std::string& dir) {
  std::vector<std::string> files;
  std::error_code ignored;
  // What else lies in a checkpoint of ours does not belong to it.
  if (fs::exists(fs::path(dir) / "training_state.json", ignored) &&
      fs::exists(fs::path(dir) / "model.safetensors", ignored)) {
    return {"model.safetensors"};
  }
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() == ".safetensors" && name.rfind("optimizer-", 0) != 0) files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string NothingToRead(const std::string& dir) {
  std::error_code ignored;
  if (!fs::exists(dir, ignored))
    return dir + (ignored ? ": cannot be reached (" + ignored.message() + ")" : ": no such folder");
  if (!fs::is_directory(dir, ignored)) return dir + ": is a file; give the folder with the safetensors files";
  fs::directory_iterator(dir, ignored);
  if (ignored) return dir + ": cannot be listed (" + ignored.message() + ")";
  std::string problem = dir + ": holds no safetensors files";
  if (fs::exists(fs::path(dir) / "checkpoints", ignored)) {
    problem += "; it is the folder of a run, whose checkpoints are " + dir + "/checkpoints/step-N";
  }
  return problem;
}

}  // namespace

std::string WeightFile(const std::string& dir, int i, int num_files) {
  if (num_files == 1) return (fs::path(dir) / "model.safetensors").string();
  return NumberedFile(dir, "model", i, num_files);
}

std::string OptimizerFile(const std::string& dir, int i, int num_files) {
  return NumberedFile(dir, "optimizer", i, num_files);
}

WeightFolder::WeightFolder(std::string dir) : dir_(std::move(dir)) {
  const std::string index = (fs::path(dir_) / kWeightIndexFile).string();
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(index, ignored))) {
    ReadIndex(index);
    return;
  }
  const std::vector<std::string> files = WeightFilesIn(dir_);
  if (files.empty()) throw UserError(NothingToRead(dir_));
  for (const std::string& file : files) {
    for (const auto& [name, entry] : Open(file).entries()) {
      if (file_of_.emplace(name, file).second) continue;
      throw UserError(dir_ + ": tensor " + name + " is in both " + file_of_[name] + " and " + file +
                      "; remove one of the files or add a " + kWeightIndexFile);
    }
  }
}

void WeightFolder::ReadIndex(const std::string& path) {
  const nlohmann::json index = nlohmann::json::parse(ReadTextFile(path), nullptr, false);
  const bool good = index.is_object() && index.contains("weight_map") && index["weight_map"].is_object();
  if (!good)
    throw UserError(path + ": is damaged; expected JSON with a \"weight_map\" of tensor names to files" +
                    kRemedy);
  for (const auto& [name, value] : index["weight_map"].items()) {
    if (!value.is_string()) throw UserError(path + ": weight_map of " + name + " is no file name" + kRemedy);
    file_of_[name] = value.get<std::string>();
  }
}

std::vector<std::string> WeightFolder::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

const TensorFileReader& WeightFolder::Open(const std::string& file) {
  std::unique_ptr<TensorFileReader>& reader = readers_[file];
  if (!reader) reader = std::make_unique<TensorFileReader>((fs::path(dir_) / file).string());
  return *reader;
}

const TensorFileEntry& WeightFolder::Entry(const std::string& name) {
  const TensorFileReader& reader = Open(file_of_.at(name));
  const auto entry = reader.entries().find(name);
  if (entry == reader.entries().end()) {
    throw UserError(reader.path() + ": lacks tensor " + name + ", which " + kWeightIndexFile +
                    " places there" + kRemedy);
  }
  return entry->second;
}

void WeightFolder::Read(const std::string& name, const Tensor& out) {
  const TensorFileEntry& entry = Entry(name);
  Open(file_of_.at(name)).Read(entry, 0, out);
}

std::string WeightFolder::FileOf(const std::string& name) const {
  return Has(name) ? (fs::path(dir_) / file_of_.at(name)).string() : "";
}

void WeightFolder::OpenAll() {
  for (const auto& [name, file] : file_of_) Entry(name);
}

}  // namespace unipool
