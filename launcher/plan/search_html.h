// The layouts of `plan --search` as one page that needs no network: speed against memory, the layouts that no
// other beats, and what was refused.
#pragma once

#include <string>

#include "launcher/plan/layout_search.h"

namespace unipool {

// `top`: layouts of the table of the fastest. `subtitle`: of which cluster. `command`: as for SearchText.
std::string SearchHtml(const SearchResult& result, int top, const std::string& subtitle,
                       const std::string& command);

}  // namespace unipool
