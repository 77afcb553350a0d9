// A folder of another program, as Hugging Face's hub has them: config.json, safetensors with or without an
// index, tokenizer files. It is read with suspicion: no file outside the folder is opened, whatever its
// index or its links say.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "launcher/checkpoints/weight_folder.h"

namespace unipool {

class HfFolder {
 public:
  // Opens the weights. Throws UserError where there is no such folder, no config.json or no weights, where
  // a path leads out of the folder, and where an index or a header is damaged.
  explicit HfFolder(const std::string& dir);

  const std::string& dir() const { return dir_; }
  WeightFolder& weights() { return *weights_; }

  // Path of the file `name`; nothing where there is none. Throws UserError where it leads out of the folder.
  std::optional<std::string> Find(const std::string& name) const;
  // The JSON object in the file `name`. Throws UserError where there is no such file, or it holds something
  // else, a key twice or more than 64 levels.
  nlohmann::json Json(const std::string& name) const;

 private:
  void CheckInside(const std::string& path) const;
  std::string dir_;
  std::optional<WeightFolder> weights_;
};

}  // namespace unipool
