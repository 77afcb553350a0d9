#include "launcher/traffic_report/html_page.h"

namespace unipool {
namespace {

constexpr const char* kStyle = R"css(
:root{--back:#fff;--text:#1a1a1a;--soft:#666;--line:#ccc;--grid:#e8e8e8;--heat:#b3261e;--compute:#b8c4ce;--idle:#e08a00;
--receiver:#9467bd;--exposed:#c62828;--stalled:#6d1b1b;--hidden:#2e7d32;--a:#0072b2;--b:#d55e00;--c:#009e73;--d:#cc79a7}
@media (prefers-color-scheme:dark){:root{--back:#15181b;--text:#e8e8e8;--soft:#9aa3ab;--line:#444;--grid:#2a2e32;
--heat:#ff7a6b;--compute:#4c5a66;--idle:#ffb13b;--receiver:#b79ae0;--exposed:#ff6659;--stalled:#c9807a;--hidden:#66bb6a;
--a:#5ab4e5;--b:#ff9248;--c:#3fcf9f;--d:#e5a5c8}}
body{background:var(--back);color:var(--text);font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:0 auto;padding:16px}
h1{font-size:22px;margin:0}h2{font-size:18px;margin:32px 0 8px;border-bottom:1px solid var(--line)}h3{font-size:15px;margin:16px 0 4px}
p{margin:6px 0;max-width:80ch}.soft{color:var(--soft)}.red{color:var(--exposed);font-weight:bold}
nav a{color:var(--a);margin-right:12px;white-space:nowrap}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;margin:6px 0}
th,td{padding:2px 8px;text-align:right;border-bottom:1px solid var(--grid)}th:first-child,td:first-child{text-align:left}
td.own{color:var(--soft);background:repeating-linear-gradient(45deg,transparent 0 4px,var(--grid) 4px 6px)}
.wide{overflow-x:auto}summary{cursor:pointer;color:var(--soft)}select{font:inherit;background:var(--back);color:var(--text)}
svg{max-width:100%;height:auto;display:block}svg text{fill:var(--text);font:11px system-ui,sans-serif}
svg .soft{fill:var(--soft)}svg .grid{stroke:var(--grid)}svg .axis{stroke:var(--text)}
.compute{fill:var(--compute)}.idle{fill:var(--idle)}.receiver{fill:var(--receiver)}.exposed{fill:var(--exposed)}
.stalled{fill:var(--stalled)}.hidden{fill:var(--hidden)}.heat{fill:var(--heat)}.arrow{stroke:var(--text);fill:none;stroke-width:1}
.ca{stroke:var(--a)}.cb{stroke:var(--b)}.cc{stroke:var(--c)}.cd{stroke:var(--d)}.curve{fill:none;stroke-width:1.5}
.fa{fill:var(--a)}.fb{fill:var(--b)}.fc{fill:var(--c)}.fd{fill:var(--d)}
@media print{:root{--back:#fff;--text:#000;--soft:#333;--compute:#ddd;--idle:#888;--receiver:#aaa;--exposed:#000;
--stalled:#444;--hidden:#bbb;--heat:#000;--a:#000;--b:#555;--c:#888;--d:#aaa}nav,select{display:none}h2{break-after:avoid}}
)css";

constexpr const char* kScript = R"js(
for(const box of document.querySelectorAll('[data-choice]')){
 const list=box.querySelector('select'),parts=[...box.children].filter(e=>e.hasAttribute('data-part'));
 const show=()=>parts.forEach((e,i)=>e.hidden=i!==list.selectedIndex);
 list.addEventListener('change',show);show();}
)js";

std::string RowHtml(const std::vector<std::string>& cells, const char* tag) {
  std::string html = "<tr>";
  for (const std::string& cell : cells) {
    html += "<" + std::string(tag) + ">" + MarkupText(cell) + "</" + tag + ">";
  }
  return html + "</tr>\n";
}

}  // namespace

std::string TableHtml(const HtmlTable& table) {
  std::string html = "<div class=\"wide\"><table><thead>" + RowHtml(table.head, "th") + "</thead><tbody>\n";
  for (const std::vector<std::string>& row : table.rows) html += RowHtml(row, "td");
  return html + "</tbody></table></div>\n";
}

std::string FoldedTableHtml(const HtmlTable& table, const std::string& title) {
  return "<details><summary>" + MarkupText(title) + "</summary>" + TableHtml(table) + "</details>\n";
}

std::string ChoiceHtml(const std::string& name, const std::vector<HtmlChoice>& choices) {
  if (choices.size() == 1) return "<h3>" + MarkupText(choices[0].label) + "</h3>" + choices[0].html;
  std::string html = "<div data-choice><select aria-label=\"" + MarkupText(name) + "\">";
  for (const HtmlChoice& choice : choices) html += "<option>" + MarkupText(choice.label) + "</option>";
  html += "</select>\n";
  for (const HtmlChoice& choice : choices) html += "<div data-part>" + choice.html + "</div>\n";
  return html + "</div>\n";
}

std::string PageHtml(const std::string& title, const std::string& subtitle,
                     const std::vector<HtmlScreen>& screens, const std::string& script) {
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>" +
                     MarkupText(title) +
                     "</title>\n<link rel=\"icon\" href=\"data:,\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width\">\n"
                     "<meta name=\"color-scheme\" content=\"light dark\">\n<style>" +
                     kStyle + "</style></head><body>\n<h1>" + MarkupText(title) +
                     "</h1>\n<p class=\"soft\">" + MarkupText(subtitle) + "</p>\n<nav>";
  for (const HtmlScreen& screen : screens)
    html += "<a href=\"#" + screen.id + "\">" + MarkupText(screen.title) + "</a> ";
  html += "</nav>\n";
  for (const HtmlScreen& screen : screens) {
    html += "<section id=\"" + screen.id + "\"><h2>" + MarkupText(screen.title) + "</h2>\n" + screen.body +
            "</section>\n";
  }
  return html + "<script>" + kScript + script + "</script>\n</body></html>\n";
}

}  // namespace unipool
