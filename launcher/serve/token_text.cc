#include "launcher/serve/token_text.h"

#include <vector>

#include "runtime/format.h"

namespace unipool {

std::string TokenName(int32_t token, const Tokenizer& tokenizer) {
  if (token >= tokenizer.vocab_size()) return Format("<token %d>", token);
  const std::string bytes = tokenizer.Decode({&token, 1});
  if (FirstInvalidUtf8(bytes) < 0) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += Format("\\x%02x", static_cast<unsigned char>(byte));
  return name;
}

std::string TokensText(std::span<const int32_t> tokens, const Tokenizer& tokenizer) {
  std::string text;
  for (const int32_t token : tokens) {
    if (token < tokenizer.vocab_size()) text += tokenizer.Decode({&token, 1});
  }
  for (int64_t at = FirstInvalidUtf8(text); at >= 0; at = FirstInvalidUtf8(text))
    text.replace(static_cast<size_t>(at), 1, "\xEF\xBF\xBD");
  return text;
}

}  // namespace unipool
