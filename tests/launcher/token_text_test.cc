#include "launcher/serve/token_text.h"

#include <gtest/gtest.h>

#include <vector>

namespace unipool {
namespace {

TEST(TokenText, NamesTellTokensApart) {
  const auto bytes = MakeTokenizer({.kind = "bytes"});
  EXPECT_EQ(TokenName('a', *bytes), "a");
  EXPECT_EQ(TokenName(0xC3, *bytes), "bytes:\\xc3");
  EXPECT_EQ(TokenName(300, *bytes), "<token 300>");
}

TEST(TokenText, TextIsUtf8) {
  const auto bytes = MakeTokenizer({.kind = "bytes"});
  EXPECT_EQ(TokensText(std::vector<int32_t>{'a', 0xC3, 0xA9, 300, 0xC3}, *bytes), "a\u00e9\uFFFD");
}

}  // namespace
}  // namespace unipool
