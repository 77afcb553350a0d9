// A plain text file as tokens: each byte is one id. Memory-mapped.
#pragma once

#include <string>

#include "launcher/data/mapped_file.h"
#include "launcher/data/token_source.h"

namespace unipool {

class TextDataset : public TokenSource {
 public:
  explicit TextDataset(const std::string& path) : file_(path) {}

  std::string name() const override { return file_.path(); }
  int64_t num_tokens() const override { return static_cast<int64_t>(file_.size_bytes()); }
  void Read(int64_t first, std::span<int32_t> tokens, int64_t vocab) const override;
  // share * bytes, rounded half to even.
  int64_t Boundary(double share) const override;
  std::string Cuts() const override { return "between its bytes"; }

 private:
  MappedFile file_;
};

}  // namespace unipool
