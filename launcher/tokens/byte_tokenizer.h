// One token a byte: the id is the byte. Any bytes are allowed. There is no end-of-text token.
#pragma once

#include "launcher/tokens/tokenizer.h"

namespace unipool {

class ByteTokenizer : public Tokenizer {
 public:
  void Encode(std::string_view text, std::vector<int32_t>& ids) const override;
  std::string Decode(std::span<const int32_t> ids) const override;
  int32_t vocab_size() const override { return 256; }
  int32_t end_of_text() const override { return -1; }
};

}  // namespace unipool
