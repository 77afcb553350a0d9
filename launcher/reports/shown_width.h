// How wide a text is for people, and shorter forms of it. Texts are UTF-8; each character is taken for one
// column. Bytes that are no UTF-8 are never worse off than each being a character.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace unipool {

// Characters of the text.
int64_t ShownWidth(std::string_view text);

// The largest number of bytes, `bytes` at most, that cuts no character.
size_t WholeCharacters(std::string_view text, size_t bytes);

// The first or last `columns` characters.
std::string FirstColumns(std::string_view text, int64_t columns);
std::string LastColumns(std::string_view text, int64_t columns);

// The text, or its begin with "..." behind it: `columns` characters at most. REQUIRES: columns >= 3.
std::string Shortened(std::string_view text, int64_t columns);

}  // namespace unipool
