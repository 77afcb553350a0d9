// A chart in a terminal, drawn with the dots of braille characters (2 x 4 in a character), or in ASCII.
#pragma once

#include <string>

#include "launcher/reports/chart.h"

namespace unipool {

struct TerminalChartOptions {
  int columns = 80, rows = 20;  // of everything; less than 30 x 6 is taken as that
  bool utf8 = false;            // else ASCII
  // Tell up to 8 curves apart. Without, and with more, each of several has a letter or digit of its own; they
  // repeat after 62, and a line then says so.
  bool colors = false;
};
// Lines, each of less than `columns` characters, with "\n" at their ends: title, curves with their axes, and
// which curve is which. What a terminal would obey in a name is shown instead.
std::string DrawInTerminal(const Chart& chart, const TerminalChartOptions& options);

}  // namespace unipool
