#include "launcher/tokens/tokenizer.h"

#include <gflags/gflags.h>

#include <cstring>

#include "launcher/tokens/tokenizer_file.h"
#include "runtime/errors.h"

DEFINE_string(
    tokenizer, "gpt2",
    "gpt2 (byte-pair encoding, needs --vocab and --merges), bytes, or a file PREFIX.tokenizer.json, "
    "as tokenize leaves it");
DEFINE_string(vocab, "", "vocabulary of the gpt2 tokenizer: JSON, token string to id");
DEFINE_string(merges, "", "merges of the gpt2 tokenizer: text, one pair a line in rank order");

namespace unipool {

void CheckTokenizerOptions(const TokenizerOptions& options) {
  if (options.kind == "bytes" || options.kind.ends_with(".json")) {
    if (options.vocab.empty() && options.merges.empty()) return;
    throw UserError("--vocab and --merges belong to --tokenizer gpt2; --tokenizer " + options.kind +
                    " takes neither");
  }
  Problems problems;
  if (options.kind != "gpt2") {
    problems.Add(
        Format("--tokenizer %s is unknown; give gpt2, bytes or a file tokenizer.json", options.kind.c_str()));
  } else {
    if (options.vocab.empty())
      problems.Add(
          "--tokenizer gpt2 needs --vocab FILE, the JSON file of its vocabulary; --tokenizer bytes needs "
          "none");
    if (options.merges.empty())
      problems.Add("--tokenizer gpt2 needs --merges FILE, the text file of its merges");
  }
  problems.ThrowIfAny();
}

std::shared_ptr<const Tokenizer> MakeTokenizer(const TokenizerOptions& options) {
  return TokenizerFileFor(options).tokenizer;
}

TokenizerOptions TokenizerOptionsFromFlags() {
  return {.kind = FLAGS_tokenizer, .vocab = FLAGS_vocab, .merges = FLAGS_merges};
}

namespace {

bool IsContinuation(uint8_t byte) {
  return (byte & 0xC0) == 0x80;
}

// Length of the well-formed character at `at`, or 0. The second byte's range excludes overlong forms,
// surrogates and code points above U+10FFFF (Unicode 15, table 3-7).
int CharacterBytes(const uint8_t* at, size_t left) {
  const uint8_t first = at[0];
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (left < static_cast<size_t>(length)) return 0;
  const uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (at[1] < low || at[1] > high) return 0;
  for (int i = 2; i < length; ++i) {
    if (!IsContinuation(at[i])) return 0;
  }
  return length;
}

}  // namespace

int64_t FirstInvalidUtf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    uint64_t eight = 0;
    if (i + 8 <= text.size()) {
      std::memcpy(&eight, bytes + i, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        i += 8;
        continue;
      }
    }
    const int length = CharacterBytes(bytes + i, text.size() - i);
    if (length == 0) return static_cast<int64_t>(i);
    i += static_cast<size_t>(length);
  }
  return -1;
}

}  // namespace unipool
