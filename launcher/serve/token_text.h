// How a token is named in an answer.
#pragma once

#include <string>

#include "launcher/tokens/tokenizer.h"

namespace unipool {

// The token's text; where its bytes are no whole characters "bytes:\xe2\x80", as OpenAI names them, so that
// different tokens have different names; beyond the tokenizer "<token 50300>".
std::string TokenName(int32_t token, const Tokenizer& tokenizer);

// The text of the tokens that the tokenizer has, with U+FFFD for bytes that are no characters.
std::string TokensText(std::span<const int32_t> tokens, const Tokenizer& tokenizer);

}  // namespace unipool
