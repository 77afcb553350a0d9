#include "launcher/tokens/byte_tokenizer.h"

#include "runtime/errors.h"

namespace unipool {

void ByteTokenizer::Encode(std::string_view text, std::vector<int32_t>& ids) const {
  ids.reserve(ids.size() + text.size());
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
}

std::string ByteTokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const int32_t id : ids) {
    CHECK(id >= 0 && id < 256) << "token id " << id << " of a vocabulary of 256 bytes";
    text.push_back(static_cast<char>(id));
  }
  return text;
}

}  // namespace unipool
