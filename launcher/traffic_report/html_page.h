// Pieces of a page of HTML that needs nothing but itself: no network, no library, light and dark, prints in
// black and white.
#pragma once

#include <string>
#include <vector>

#include "launcher/reports/markup.h"

namespace unipool {

// The first column holds names, the others numbers.
struct HtmlTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};
std::string TableHtml(const HtmlTable& table);
// Behind a line that opens it.
std::string FoldedTableHtml(const HtmlTable& table, const std::string& title = "Table");

// One of several pieces is shown, chosen from a list. `name` is unique on the page.
struct HtmlChoice {
  std::string label, html;
};
std::string ChoiceHtml(const std::string& name, const std::vector<HtmlChoice>& choices);

struct HtmlScreen {
  std::string id, title, body;
};
// The whole page. `script`: JavaScript beside that of ChoiceHtml.
std::string PageHtml(const std::string& title, const std::string& subtitle,
                     const std::vector<HtmlScreen>& screens, const std::string& script);

}  // namespace unipool
