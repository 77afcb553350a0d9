// Text inside of SVG and HTML.
#include "launcher/reports/markup.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(MarkupText, HoldsNoMarkup) {
  EXPECT_EQ(MarkupText("<b a=\"1\">&\n"), "&lt;b a=&quot;1&quot;&gt;&amp; ");
  EXPECT_EQ(MarkupText("größer 'x'"), "größer 'x'");
}

}  // namespace
}  // namespace unipool
