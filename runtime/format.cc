#include "runtime/format.h"

#include <cstdio>

namespace unipool {
namespace {

template <class T>
std::string Printed(const std::string& format, T value) {
  std::string text(std::snprintf(nullptr, 0, format.c_str(), value), '\0');
  std::snprintf(text.data(), text.size() + 1, format.c_str(), value);
  return text;
}

// printf's words for what each type of argument needs.
std::string Convert(const FormatConversion& conversion, const FormatArgument& argument) {
  const std::string flags = "%" + std::string(conversion.flags);
  if (const auto* text = std::get_if<std::string_view>(&argument)) {
    return Printed(flags + "s", std::string(*text).c_str());
  }
  if (const auto* real = std::get_if<double>(&argument)) return Printed(flags + conversion.letter, *real);
  if (const auto* integer = std::get_if<int64_t>(&argument)) {
    return Printed(flags + "ll" + conversion.letter, static_cast<long long>(*integer));
  }
  const char letter = conversion.letter == 'd' ? 'u' : conversion.letter;
  return Printed(flags + "ll" + letter, static_cast<unsigned long long>(std::get<uint64_t>(argument)));
}

}  // namespace

std::string FormatArguments(std::string_view format, std::initializer_list<FormatArgument> arguments) {
  std::string text;
  const FormatArgument* next = arguments.begin();
  for (size_t percent; (percent = format.find('%')) != format.npos;) {
    text += format.substr(0, percent);
    format.remove_prefix(percent + 1);
    const FormatConversion conversion = TakeConversion(format);
    text += conversion.letter == '%' ? "%" : Convert(conversion, *next++);
  }
  return text += format;
}

}  // namespace unipool
