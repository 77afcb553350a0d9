// The command `tokenize`: texts in JSON lines become a Megatron dataset, byte for byte what Megatron-LM's
// tools/preprocess_data.py writes with the same tokenizer.
//
//   unipool tokenize --input a.jsonl,b.jsonl --output_prefix p --tokenizer gpt2 --vocab V --merges M
//
// writes p_text_document.bin and .idx ("text" is the --key), and beside them the tokenizer that made the ids,
// p_text_document.tokenizer.json (tokenizer_file.h). Documents stand in input order. Each is its ids
// and then the end-of-text id; a text without ids becomes an empty document. Blank lines are skipped. A line
// must be a JSON object in UTF-8 whose --key is a string. Half a surrogate pair ("\ud800" alone) is no
// character. It is an error, as it is for Megatron, whose tokenizer cannot encode it. With --skip_bad_lines
// wrong lines are left out, counted and told at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/tokens/tokenizer.h"

namespace unipool {

struct TokenizeOptions {
  std::vector<std::string> input;  // JSON lines; the documents of all files in this order (input_file.h)
  std::string output_prefix;       // the dataset is OUTPUT_PREFIX_KEY_document
  std::string key = "text";        // JSON key of the text
  TokenizerOptions tokenizer;
  std::optional<bool> append_eod;  // end each document with end-of-text; default: if the tokenizer has one
  bool skip_bad_lines = false;
  int threads = 0;  // 0: one a core. The output does not depend on it.
};

// Writes the dataset and returns its prefix, OUTPUT_PREFIX_KEY_document. Prints progress to stderr, and how
// many lines were skipped, with the first few and why. Memory is bounded: a few MiB a thread and 12 bytes a
// document. Throws UserError with all wrong options at once, where another `tokenize` writes this dataset, or
// with file and line of the first wrong document. Then no file of the dataset is left or changed. That no
// line was good is an error too.
std::string Tokenize(const TokenizeOptions& options);

}  // namespace unipool
