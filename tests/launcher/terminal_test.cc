// What may reach a terminal.
#include "launcher/reports/terminal.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(Terminal, TextIsNoCommand) {
  EXPECT_EQ(TerminalText("runs/a\033[31m\r\x7f"), "runs/a\\x1b[31m\\x0d\\x7f");
  EXPECT_EQ(TerminalText("a\xc2\x9b"
                         "31m"),
            "a\\x9b31m");
  EXPECT_EQ(TerminalText("\xc3\xb6\xc2\xb1 \xe2\x82\xac\nnext"), "\xc3\xb6\xc2\xb1 \xe2\x82\xac\nnext");
}

}  // namespace
}  // namespace unipool
