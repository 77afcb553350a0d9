// tokenizer.json: a tokenizer as one file, which goes with the tokens that it made. `tokenize` leaves it as
// PREFIX.tokenizer.json beside a dataset, and a checkpoint holds that of its data.
//
// It is the format of Hugging Face's tokenizers library, as far as byte-level BPE of GPT-2 needs it: "model"
// with "type": "BPE", "vocab" and "merges", and "pre_tokenizer" with "type": "ByteLevel". The tokenizer of
// bytes is the same with 256 tokens and no merges, whose ids are the bytes.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "launcher/tokens/tokenizer.h"

namespace unipool {

inline constexpr char kTokenizerFile[] = "tokenizer.json";  // in a checkpoint
std::string TokenizerFileOf(const std::string& dataset_prefix);

struct TokenizerFile {
  std::string text;  // of the file
  std::string name;  // "bytes" or "gpt2, 50257 tokens, 91f5c5f4d9a2a0c1"; of equal tokenizers equal
  int32_t vocab_size = 0;
  std::shared_ptr<const Tokenizer> tokenizer;
};

// Of the options of the command line. Throws UserError as MakeTokenizer.
TokenizerFile TokenizerFileFor(const TokenizerOptions& options);

// Throws UserError that names the file and what in it is no tokenizer that this program knows.
TokenizerFile ReadTokenizerFile(const std::string& path);

// Nothing where there is no such file.
std::optional<TokenizerFile> FindTokenizerFile(const std::string& path);

}  // namespace unipool
