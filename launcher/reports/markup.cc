#include "launcher/reports/markup.h"

namespace unipool {

std::string MarkupText(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&')
      escaped += "&amp;";
    else if (c == '<')
      escaped += "&lt;";
    else if (c == '>')
      escaped += "&gt;";
    else if (c == '"')
      escaped += "&quot;";
    else
      escaped += static_cast<unsigned char>(c) < 32 ? ' ' : c;
  }
  return escaped;
}

}  // namespace unipool
