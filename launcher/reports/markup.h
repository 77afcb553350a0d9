// Text inside of SVG and HTML.
#pragma once

#include <string>

namespace unipool {

// The text with & < > " as entities and control characters as blanks. Fit for content and quoted attributes.
std::string MarkupText(const std::string& text);

}  // namespace unipool
