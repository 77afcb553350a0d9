#include "launcher/plan/search_html.h"

#include <algorithm>

#include "launcher/plan/forecast_text.h"
#include "launcher/reports/readable_number.h"
#include "launcher/traffic_report/html_page.h"
#include "launcher/traffic_report/html_plots.h"
#include "runtime/format.h"

namespace unipool {
namespace {

std::string Paragraph(const std::string& text) {
  return "<p>" + MarkupText(text) + "</p>\n";
}

HtmlTable TableOf(const std::vector<const Layout*>& layouts) {
  HtmlTable table{.head = {"settings", "ranks", "step", "tokens/s", "memory", "twice rows"}, .rows = {}};
  for (const Layout* layout : layouts) {
    table.rows.push_back({JoinSettings(layout->settings), std::to_string(layout->ranks),
                          SecondsText(layout->step),
                          FormatCount(static_cast<int64_t>(layout->tokens_per_second)),
                          FormatBytes(layout->memory), FormatBytes(layout->memory_twice)});
  }
  return table;
}

// Speed against memory; color tells the number of ranks.
Scatter ScatterOf(const SearchResult& result) {
  constexpr double kGigabyte = 1e9;
  std::vector<int> ranks;
  for (const Layout& layout : result.layouts) ranks.push_back(layout.ranks);
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  Scatter scatter{.points = {}, .names = {}, .x_title = "tokens/s", .y_title = "GB"};
  for (const int count : ranks) scatter.names.push_back(Format("%d ranks", count));
  for (const Layout& layout : result.layouts) {
    const auto name = std::lower_bound(ranks.begin(), ranks.end(), layout.ranks) - ranks.begin();
    scatter.points.push_back({.x = layout.tokens_per_second,
                              .y = static_cast<double>(layout.memory) / kGigabyte,
                              .title = JoinSettings(layout.settings) + ": " + SecondsText(layout.step) +
                                       ", " + FormatBytes(layout.memory),
                              .name = static_cast<int>(name),
                              .is_marked = layout.is_best});
  }
  return scatter;
}

}  // namespace

std::string SearchHtml(const SearchResult& result, int top, const std::string& subtitle,
                       const std::string& command) {
  std::vector<const Layout*> fastest, best;
  for (const Layout& layout : result.layouts) {
    if (static_cast<int>(fastest.size()) < top) fastest.push_back(&layout);
    if (layout.is_best) best.push_back(&layout);
  }
  HtmlTable refused{.head = {"reason", "candidates", "the first of them"}, .rows = {}};
  for (const auto& [reason, count] : result.refused) {
    const auto example = result.examples.find(reason);
    refused.rows.push_back(
        {reason, std::to_string(count), example == result.examples.end() ? "" : example->second});
  }
  std::string counted =
      Format("%d candidates, %d of them validate and fit.", result.num_candidates, result.layouts.size());
  for (const std::string& ranks : result.left_out) counted += " Left out: " + ranks + ".";
  std::string body = Paragraph(counted);
  if (result.layouts.empty()) {
    body += Paragraph(NoLayoutText(result));
  } else {
    body += Paragraph(
                "Memory is that of the rank that needs most, with level rows. Large points: no other layout "
                "is as "
                "fast with as little memory on as few ranks.") +
            ScatterSvg(ScatterOf(result)) + TableHtml(TableOf(best));
  }
  std::vector<HtmlScreen> screens{{"layouts", "Speed against memory", body}};
  if (!fastest.empty())
    screens.push_back(
        {"fastest", "Fastest",
         Paragraph(command + " " + JoinSettings(fastest[0]->settings)) + TableHtml(TableOf(fastest))});
  if (!refused.rows.empty())
    screens.push_back({"refused", "Refused, by the first reason", TableHtml(refused)});
  return PageHtml("Plan of all layouts", subtitle, screens, "");
}

}  // namespace unipool
