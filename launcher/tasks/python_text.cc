#define PCRE2_CODE_UNIT_WIDTH 8
#include "launcher/tasks/python_text.h"

#include <pcre2.h>

#include <algorithm>

#include "runtime/errors.h"

namespace unipool {
namespace {

bool IsFollower(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// str.isspace().
bool IsBlank(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

char32_t CodePoint(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  char32_t code = character.size() == 1 ? first : first & (0x7Fu >> character.size());
  for (const char byte : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(byte) & 0x3F);
  return code;
}

size_t FirstSize(std::string_view text) {
  size_t size = 1;
  while (size < text.size() && IsFollower(text[size])) ++size;
  return size;
}

std::string ReplacedAll(std::string text, std::string_view what, std::string_view with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
  return text;
}

}  // namespace

int64_t NumCharacters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return !IsFollower(byte); });
}

size_t RightStrippedSize(std::string_view text) {
  size_t size = text.size();
  while (size > 0) {
    size_t begin = size - 1;
    while (begin > 0 && IsFollower(text[begin])) --begin;
    if (!IsBlank(CodePoint(text.substr(begin, size - begin)))) break;
    size = begin;
  }
  return size;
}

std::string Stripped(std::string_view text) {
  text = text.substr(0, RightStrippedSize(text));
  while (!text.empty() && IsBlank(CodePoint(text.substr(0, FirstSize(text)))))
    text.remove_prefix(FirstSize(text));
  return std::string(text);
}

std::string Capitalized(const std::string& text) {
  static const pcre2_code* const pattern = [] {
    int error = 0;
    PCRE2_SIZE offset = 0;
    const auto* all = reinterpret_cast<PCRE2_SPTR>("^(.)(.*)$");
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY;
    pcre2_code* code = pcre2_compile(all, PCRE2_ZERO_TERMINATED, options, &error, &offset, nullptr);
    CHECK(code != nullptr) << "PCRE2: error " << error;
    return code;
  }();
  if (text.empty()) return text;
  std::string result(2 * text.size() + 16, '\0');  // a letter's other case has 3 bytes for 2 at most
  PCRE2_SIZE size = result.size();
  const int replaced = pcre2_substitute(
      pattern, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, PCRE2_SUBSTITUTE_EXTENDED, nullptr,
      nullptr, reinterpret_cast<PCRE2_SPTR>("\\U$1\\E\\L$2\\E"), PCRE2_ZERO_TERMINATED,
      reinterpret_cast<PCRE2_UCHAR*>(result.data()), &size);
  CHECK_EQ(replaced, 1) << "PCRE2, on " << text;
  result.resize(size);
  return result;
}

std::string WithoutBrackets(const std::string& text) {
  const std::string titled = ReplacedAll(Stripped(text), " [title]", ". ");
  std::string without;
  for (size_t at = 0; at < titled.size();) {
    if (titled[at] == '[') {
      const size_t end = titled.find_first_of("]\n", at);
      if (end != std::string::npos && titled[end] == ']') {
        at = end + 1;
        continue;
      }
    }
    without.push_back(titled[at++]);
  }
  return ReplacedAll(without, "  ", " ");
}

}  // namespace unipool
