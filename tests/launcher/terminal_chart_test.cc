// Charts in a terminal, character by character.
#include "launcher/reports/terminal_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>

namespace unipool {
namespace {

using testing::HasSubstr;
using testing::Not;

Chart Falling() {
  Chart chart{.title = "loss, nats", .x_label = "step", .curves = {{.name = "runs/a"}}};
  for (int step = 0; step <= 40; ++step) chart.curves[0].points.emplace_back(step, 4 - 0.1 * step);
  return chart;
}

// Characters, not bytes, without colors.
size_t Columns(const std::string& line) {
  size_t count = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\033')
      i = line.find('m', i);
    else
      count += (line[i] & 0xc0) != 0x80;
  }
  return count;
}

TEST(TerminalChart, DrawsInAscii) {
  EXPECT_EQ(DrawInTerminal(Falling(), {.columns = 40, .rows = 9}),
            "loss, nats by step\n"
            " 4 +****\n"
            "   |    *********\n"
            " 2 +             ********\n"
            "   |                     *********\n"
            " 0 +                              *****\n"
            "   +-----------------------------------\n"
            "    0               20               40\n"
            "  * runs/a\n");
}

TEST(TerminalChart, DrawsWithDots) {
  const std::string text = DrawInTerminal(Falling(), {.columns = 40, .rows = 9, .utf8 = true});
  EXPECT_THAT(text, HasSubstr(" 4 \u2524\u2809"));
  EXPECT_THAT(text, HasSubstr("\u2514\u2500\u2500"));
  EXPECT_THAT(text, HasSubstr("\u2501 runs/a\n"));
  EXPECT_THAT(text, Not(HasSubstr("*")));
}

TEST(TerminalChart, TellsCurvesApart) {
  Chart chart = Falling();
  chart.curves.push_back({.name = "runs/b", .points = {{0, 1}, {40, 3}}});
  const std::string letters = DrawInTerminal(chart, {.columns = 60, .rows = 16, .utf8 = true});
  EXPECT_THAT(letters, HasSubstr("aaa"));
  EXPECT_THAT(letters, HasSubstr("bbb"));
  EXPECT_THAT(letters, HasSubstr("  a runs/a\n  b runs/b\n"));
  const std::string colors = DrawInTerminal(chart, {.columns = 60, .rows = 16, .utf8 = true, .colors = true});
  EXPECT_THAT(colors, HasSubstr("\033[36m\u2501\033[0m runs/a\n"));
  EXPECT_THAT(colors, HasSubstr("\033[33m\u2501\033[0m runs/b\n"));
}

TEST(TerminalChart, ManyCurvesHaveMarksOfTheirOwn) {
  Chart chart;
  for (int i = 0; i < 62; ++i) chart.curves.push_back({.name = "run", .points = {{0, i}, {1, i}}});
  const std::string many = DrawInTerminal(chart, {.columns = 60, .rows = 16});
  EXPECT_THAT(many, HasSubstr("  z run\n  A run\n"));
  EXPECT_THAT(many, testing::EndsWith("  9 run\n"));
  chart.curves.push_back({.name = "a\033[31mb"});
  EXPECT_THAT(DrawInTerminal(chart, {.columns = 60, .rows = 16}),
              testing::EndsWith("  a a\\x1b[31mb\n  marks repeat after 62 curves\n"));
  chart.curves.resize(9);
  EXPECT_THAT(DrawInTerminal(chart, {.columns = 60, .rows = 16, .colors = true}),
              HasSubstr("\033[36mi\033[0m run\n"));
}

TEST(TerminalChart, FitsAnyTerminalAndAnyNumbers) {
  const double none = std::numeric_limits<double>::quiet_NaN(),
               infinity = std::numeric_limits<double>::infinity();
  Chart odd = Falling();
  odd.curves[0].name = std::string(300, 'n');
  odd.curves.push_back({.name = "none", .points = {{1, none}, {2, infinity}, {3, 1e308}, {4, -1e308}}});
  odd.curves.push_back({.name = "empty"});
  for (int columns : {1, 30, 80, 200}) {
    for (int rows : {1, 10, 60}) {
      for (bool utf8 : {false, true}) {
        std::istringstream lines(DrawInTerminal(odd, {.columns = columns, .rows = rows, .utf8 = utf8}));
        int count = 0;
        for (std::string line; std::getline(lines, line); ++count)
          EXPECT_LT(static_cast<int>(Columns(line)), std::max(columns, 30)) << line;
        EXPECT_LE(count, std::max(rows, 9));
      }
    }
  }
}

}  // namespace
}  // namespace unipool
