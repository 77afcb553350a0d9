// A chart in a terminal, drawn with the dots of braille characters (2 x 4 in a character), or in ASCII.
#pragma once

#include <string>

#include "launcher/reports/chart.h"

namespace unipool {

struct TerminalChartOptions {
  int columns = 80, rows = 20;  // of everything; less than 30 x 6 is taken as that
  bool utf8 = false;            // else ASCII
  bool colors = false;          // tell curves apart; else, with several ones, each has a letter of its own
};
// Lines, each of less than `columns` characters, with "\n" at their ends: title, curves with their axes, and
// which curve is which.
std::string DrawInTerminal(const Chart& chart, const TerminalChartOptions& options);

}  // namespace unipool
