// GPT-2's byte-level byte-pair encoding (Radford et al. 2019).
// Text is cut into pieces by
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+        (Unicode classes)
// and each piece is encoded on its own: it starts as one token a byte; then, again and again, the
// neighbouring pair of the lowest merge rank becomes one token, until no neighbours form a merge. In the
// files a byte is shown as one printable character: bytes 33-126, 161-172 and 174-255 as the character of
// that number, the other 68 in rising order as U+0100, U+0101, ... (a space is U+0120).
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "launcher/bpe_merger.h"
#include "launcher/piece_splitter.h"
#include "launcher/tokenizer.h"

namespace unipool {

class Gpt2Tokenizer : public Tokenizer {
 public:
  // `vocab_path`: JSON object, token string to id; the ids are 0 .. size-1, each once. `merges_path`: an
  // optional line that begins with "#version", then "LEFT RIGHT" a line. "<|endoftext|>", if in the
  // vocabulary, ends a document. Errors: UserError that names the file, and the line or token.
  Gpt2Tokenizer(const std::string& vocab_path, const std::string& merges_path);

  void Encode(std::string_view text,
              std::vector<int32_t>& ids) const override;  // keeps a bounded cache per thread
  std::string Decode(std::span<const int32_t> ids) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(bytes_of_id_.size()); }
  int32_t end_of_text() const override { return end_of_text_; }

 private:
  using Vocabulary = std::unordered_map<std::string, int32_t>;
  Vocabulary ReadVocabulary(const std::string& path);
  void ReadMerges(const std::string& path, const Vocabulary& vocabulary);

  const uint64_t number_;  // of this object among all, the cache's owner
  std::vector<std::string> bytes_of_id_;
  int32_t end_of_text_ = -1;
  BpeMerger merger_;
  PieceSplitter splitter_;
};

}  // namespace unipool
