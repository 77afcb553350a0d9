// Text to token ids and back. An implementation does not change after construction, so any number of threads
// may share one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace unipool {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Appends the ids of `text` to `ids`. Only the program adds special tokens: "<|endoftext|>" written out in
  // a text is ordinary text. Decode(Encode(text)) == text. Throws UserError with the byte offset when the
  // tokenizer needs UTF-8 and `text` is not.
  virtual void Encode(std::string_view text, std::vector<int32_t>& ids) const = 0;
  // The bytes of `ids` one after another. Ids that begin or end inside a character give bytes that are not
  // UTF-8 on their own. REQUIRES: 0 <= id < vocab_size().
  virtual std::string Decode(std::span<const int32_t> ids) const = 0;
  virtual int32_t vocab_size() const = 0;
  virtual int32_t end_of_text() const = 0;  // the id that ends a document, or -1 if there is none
};

// Where a tokenizer comes from.
struct TokenizerOptions {
  std::string kind = "gpt2";  // gpt2, bytes, or the path of a tokenizer.json (tokenizer_file.h)
  std::string vocab;          // gpt2: path of the JSON object that maps a token's string to its id
  std::string merges;         // gpt2: path of the merges, in rank order
};

// Throws UserError that names the flag or the file.
void CheckTokenizerOptions(const TokenizerOptions& options);
std::shared_ptr<const Tokenizer> MakeTokenizer(const TokenizerOptions& options);

// The options --tokenizer, --vocab and --merges, which all commands share that read or write text.
TokenizerOptions TokenizerOptionsFromFlags();

// Offset of the first byte that is not part of well-formed UTF-8, or -1. Surrogates and overlong forms are
// not well-formed.
int64_t FirstInvalidUtf8(std::string_view text);

}  // namespace unipool
