#include "runtime/errors.h"

#include <cstdarg>
#include <cstdio>

namespace unipool {

UserError::UserError(std::vector<std::string> problems) : problems_(std::move(problems)) {
  for (const std::string& problem : problems_) {
    if (!text_.empty()) text_ += '\n';
    text_ += problem;
  }
}

void Problems::ThrowIfAny() const {
  if (!list_.empty()) throw UserError(list_);
}

std::string Format(const char* format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  std::string text(std::vsnprintf(nullptr, 0, format, arguments), '\0');
  va_end(arguments);
  std::vsnprintf(text.data(), text.size() + 1, format, again);
  va_end(again);
  return text;
}

}  // namespace unipool
