#include "launcher/reports/shown_width.h"

#include <algorithm>

namespace unipool {
namespace {

bool IsWithinCharacter(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

}  // namespace

int64_t ShownWidth(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return !IsWithinCharacter(byte); });
}

size_t WholeCharacters(std::string_view text, size_t bytes) {
  if (bytes >= text.size()) return text.size();
  while (bytes > 0 && IsWithinCharacter(text[bytes])) --bytes;
  return bytes;
}

std::string FirstColumns(std::string_view text, int64_t columns) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (!IsWithinCharacter(text[end]) && columns-- <= 0) break;
  }
  return std::string(text.substr(0, end));
}

std::string LastColumns(std::string_view text, int64_t columns) {
  size_t begin = text.size();
  while (begin > 0 && columns > 0) {
    --begin;
    if (!IsWithinCharacter(text[begin])) --columns;
  }
  return std::string(text.substr(begin));
}

std::string Shortened(std::string_view text, int64_t columns) {
  if (ShownWidth(text) <= columns) return std::string(text);
  return FirstColumns(text, columns - 3) + "...";
}

}  // namespace unipool
