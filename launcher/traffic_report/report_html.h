// A report of traffic as one page of HTML.
#pragma once

#include <string>
#include <vector>

#include "launcher/reports/run_record.h"
#include "launcher/traffic_report/html_page.h"
#include "launcher/traffic_report/traffic_report.h"

namespace unipool {

// `run`: the metrics of the run, for its curves; null where it has none. `first`: screens before the others.
// Nothing on the page needs a network.
std::string ReportHtml(const TrafficReport& report, const RunRecord* run, std::vector<HtmlScreen> first = {});

// ---- Its screens, in files of their own.
HtmlScreen VerdictScreen(const TrafficReport& report);
HtmlScreen RanksScreen(const TrafficReport& report);
HtmlScreen MatrixScreen(const TrafficReport& report);
HtmlScreen BlameScreen(const TrafficReport& report);
HtmlScreen LayersScreen(const TrafficReport& report);
HtmlScreen TimeLineScreen(const TrafficReport& report);
HtmlScreen ExpertsScreen(const TrafficReport& report, const RunRecord* run);
HtmlScreen SizesScreen(const TrafficReport& report);
HtmlScreen WhatIfScreen(const TrafficReport& report);
HtmlScreen QualityScreen(const TrafficReport& report);
HtmlScreen RunScreen(const RunRecord* run);

// "12.345": milliseconds; "unknown".
std::string MsText(double ns);
// A paragraph.
std::string ParagraphHtml(const std::string& text, const std::string& css = "");
// What only records of every exchange can show.
std::string NeedsRecordsHtml(const std::string& what);

}  // namespace unipool
