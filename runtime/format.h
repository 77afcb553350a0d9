// Text from a format in printf's manner. The compiler checks the format against the arguments, and the width
// of a number is its own affair: one conversion serves all integers, so no argument needs a cast.
//
//   %d %x     an integer of any width, with or without a sign; %x writes it in base 16
//   %e %f %g  a double or float
//   %s        const char*, std::string or std::string_view
//   %%        a percent sign
//
// Flags, width and precision are printf's: "%-9s", "%02d", "%10.3f". There are no length modifiers: "%lld"
// does not compile. Enumerations and bool are no arguments: say in words what they mean.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

namespace unipool {

enum class FormatKind : uint8_t { kInteger, kReal, kText };

// "%-9s" has the flags "-9" and the letter 's'.
struct FormatConversion {
  std::string_view flags;
  char letter = 0;
};

// Takes a conversion, without its percent sign, from the beginning of `format`. The letter is 0 where
// `format` ends too early.
constexpr FormatConversion TakeConversion(std::string_view& format) {
  size_t length = 0;
  while (length < format.size() && std::string_view("-+ #0123456789.").find(format[length]) != format.npos)
    ++length;
  const FormatConversion conversion{format.substr(0, length), length < format.size() ? format[length] : '\0'};
  format.remove_prefix(length < format.size() ? length + 1 : length);
  return conversion;
}

// Whether the conversions of `format` are known ones and take arguments of these kinds, in this order.
constexpr bool FormatFits(std::string_view format, std::initializer_list<FormatKind> kinds) {
  const FormatKind* next = kinds.begin();
  while (!format.empty()) {
    const char letter = format.front();
    format.remove_prefix(1);
    if (letter != '%') continue;
    const FormatConversion conversion = TakeConversion(format);
    if (conversion.letter == '%' && conversion.flags.empty()) continue;
    if (conversion.letter == 0 || next == kinds.end()) return false;
    const std::string_view letters = *next == FormatKind::kInteger ? "dx"
                                     : *next == FormatKind::kReal  ? "efg"
                                                                   : "s";
    if (letters.find(conversion.letter) == letters.npos) return false;
    ++next;
  }
  return next == kinds.end();
}

template <class T>
constexpr FormatKind FormatKindOf() {
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    return FormatKind::kInteger;
  } else if constexpr (std::is_floating_point_v<T>) {
    return FormatKind::kReal;
  } else {
    static_assert(std::is_convertible_v<const T&, std::string_view>,
                  "Format takes integers, real numbers and text");
    return FormatKind::kText;
  }
}

// A string literal that fits arguments of these types; any other does not compile.
template <class... Arguments>
class FormatString {
 public:
  consteval FormatString(const char* text) : text_(text) {
    if (!FormatFits(text_, {FormatKindOf<Arguments>()...})) throw "the format does not fit its arguments";
  }
  std::string_view text() const { return text_; }

 private:
  std::string_view text_;
};

using FormatArgument = std::variant<int64_t, uint64_t, double, std::string_view>;

template <class T>
FormatArgument ToFormatArgument(const T& value) {
  if constexpr (FormatKindOf<T>() == FormatKind::kText) {
    return std::string_view(value);
  } else if constexpr (FormatKindOf<T>() == FormatKind::kReal) {
    return static_cast<double>(value);
  } else if constexpr (std::is_signed_v<T>) {
    return int64_t{value};
  } else {
    return uint64_t{value};
  }
}

// The text of a format that fits its arguments.
std::string FormatArguments(std::string_view format, std::initializer_list<FormatArgument> arguments);

template <class... Arguments>
std::string Format(FormatString<std::type_identity_t<Arguments>...> format, const Arguments&... arguments) {
  return FormatArguments(format.text(), {ToFormatArgument(arguments)...});
}

}  // namespace unipool
