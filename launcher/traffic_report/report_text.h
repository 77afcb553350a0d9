// A report of traffic as text of at most 80 columns.
#pragma once

#include <string>

#include "launcher/traffic_report/traffic_report.h"

namespace unipool {

std::string ReportText(const TrafficReport& report);

// Lines of at most `columns`; lines after the first begin with `indent` blanks.
std::string Wrapped(const std::string& text, size_t columns, size_t indent);

// "FULL records of steps 5 to 7", "windows of steps 0 to 99".
std::string SourceText(const TrafficReport& report);

// Cells by the time that ranks were blocked in them, longest first.
std::vector<std::pair<CellKey, const CellFigures*>> CellsByBlocked(const TrafficFigures& figures);

// "-" for none, "forward", "backward".
const char* LaneName(int lane);

// Share of the wire's time that was not exposed; unknown without hidden times. Stalled time is no wire's.
double HiddenShare(const WaitFigures& waits);

}  // namespace unipool
