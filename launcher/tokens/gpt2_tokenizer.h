// GPT-2's byte-level byte-pair encoding (Radford et al. 2019). Text is cut into pieces by this pattern of
// Unicode classes:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// Each piece is encoded on its own. It starts as one token a byte. Then the neighbouring pair of the lowest
// merge rank becomes one token, again and again, until no neighbours form a merge.
//
// The files show a byte as one printable character. Bytes 33-126, 161-172 and 174-255 are the character of
// that number. The other 68 are U+0100, U+0101, ... in rising order; a space is U+0120.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "launcher/tokens/bpe_merger.h"
#include "launcher/tokens/piece_splitter.h"
#include "launcher/tokens/tokenizer.h"

namespace unipool {

inline constexpr char kEndOfText[] = "<|endoftext|>";

// What the files hold, with their names for messages.
struct Gpt2Content {
  struct Merge {
    int64_t line = 0;  // of the file, from 1
    std::string text;  // "LEFT RIGHT"
  };
  nlohmann::json vocab = nlohmann::json::object();  // token as shown: id
  std::vector<Merge> merges;                        // in rank order
  std::string vocab_name, merges_name;
};

// Throws UserError that names the file.
Gpt2Content ReadGpt2Files(const std::string& vocab_path, const std::string& merges_path);

// The printable character that stands for a byte, as UTF-8.
std::string ShownByte(uint8_t byte);

class Gpt2Tokenizer : public Tokenizer {
 public:
  // `vocab_path` is a JSON object, token string to id; the ids are 0 .. size-1, each once. "<|endoftext|>"
  // ends a document, if the vocabulary has it. `merges_path` is an optional line that begins with "#version",
  // then a line "LEFT RIGHT" for each merge. Throws UserError that names the file, and the line or token.
  Gpt2Tokenizer(const std::string& vocab_path, const std::string& merges_path);
  explicit Gpt2Tokenizer(const Gpt2Content& content);

  // Keeps a bounded cache for each thread (piece_cache.h).
  void Encode(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string Decode(std::span<const int32_t> ids) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(bytes_of_id_.size()); }
  int32_t end_of_text() const override { return end_of_text_; }

 private:
  using Vocabulary = std::unordered_map<std::string, int32_t>;
  Vocabulary TakeVocabulary(const Gpt2Content& content);
  void TakeMerges(const Gpt2Content& content, const Vocabulary& vocabulary);

  const uint64_t number_;  // of this object among all, by which a cache knows its owner
  std::vector<std::string> bytes_of_id_;
  int32_t end_of_text_ = -1;
  BpeMerger merger_;
  PieceSplitter splitter_;
};

}  // namespace unipool
