// Text as Python's str sees it, where a task's rule says so: in characters, with Unicode's blanks. Texts are
// well-formed UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace unipool {

int64_t NumCharacters(std::string_view text);

// str.strip(), and the bytes that str.rstrip() leaves.
std::string Stripped(std::string_view text);
size_t RightStrippedSize(std::string_view text);

// str.capitalize(): the first character as a capital, all others as small letters. Characters that change
// into several (the German sharp s) stay as they are.
std::string Capitalized(const std::string& text);

// What HellaSwag's texts need, as lm-evaluation-harness does it: without blanks at the ends, " [title]" as
// ". ", without what stands in brackets on one line, and "  " as " ", once.
std::string WithoutBrackets(const std::string& text);

}  // namespace unipool
