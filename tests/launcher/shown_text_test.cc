// What a growing text may show, compared with looking at the whole text at once.
#include "launcher/tokens/shown_text.h"

#include <gtest/gtest.h>

#include <random>

#include "launcher/tokens/tokenizer.h"
#include "tests/fresh_seed.h"

namespace unipool {
namespace {

// All of the text up to the end of the stop string that is complete first, without that one.
std::string Expected(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      const bool here = end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (here) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST(ShownText, WithoutStopsItShowsAllAndWholeCharacters) {
  ShownText shown({});
  EXPECT_EQ(shown.Add("abc"), "abc");
  EXPECT_EQ(shown.Add("\xc3"), "");
  EXPECT_EQ(shown.Add("\xb6x\xe2\x82"), "\xc3\xb6x");
  EXPECT_EQ(shown.Add("\xac"), "\xe2\x82\xac");
  EXPECT_EQ(shown.Add("\xf0\x9f\x98"), "");
  EXPECT_EQ(shown.Add("\x80"), "\xf0\x9f\x98\x80");
  EXPECT_EQ(shown.Add("\xf0\x9f"), "");
  EXPECT_EQ(shown.Rest(), "\xf0\x9f");
  EXPECT_EQ(shown.Rest(), "");
  // Bytes that begin no character are not waited for.
  EXPECT_EQ(shown.Add("\xff"), "\xff");
  EXPECT_EQ(shown.Add("\x80\x80\x80\x80"), "\x80\x80\x80\x80");
  EXPECT_FALSE(shown.has_stopped());
}

TEST(ShownText, HoldsBackWhatMayBecomeAStop) {
  ShownText shown({"\n\nThe", "END"});
  EXPECT_EQ(shown.Add("one\n"), "one");
  EXPECT_EQ(shown.Add("two E"), "\ntwo ");
  EXPECT_EQ(shown.Add("N"), "");
  EXPECT_EQ(shown.Add("OUGH\n\nT"), "ENOUGH");
  EXPECT_EQ(shown.Add("hey go on"), "");
  EXPECT_TRUE(shown.has_stopped());
  EXPECT_EQ(shown.Add("more"), "");
  EXPECT_EQ(shown.Rest(), "");
}

TEST(ShownText, OfStopsTheFirstThatIsCompleteCounts) {
  const auto all = [](const std::vector<std::string>& stops, const std::string& text) {
    ShownText shown(stops);
    return shown.Add(text) + shown.Rest();
  };
  EXPECT_EQ(all({"abcX", "b"}, "abcX"), "a");
  EXPECT_EQ(all({"c", "abc", "bc"}, "xabc"), "x");
  EXPECT_EQ(all({"aab"}, "aaab"), "a");
  EXPECT_EQ(all({"abab"}, "ababab"), "");
  EXPECT_EQ(all({"x"}, "abc"), "abc");
}

// Whatever the pieces, the same is shown; at no time more than the final text.
TEST(ShownText, DoesNotDependOnThePieces) {
  std::mt19937_64 random(FreshSeed());
  const auto number = [&](size_t below) { return static_cast<size_t>(random() % below); };
  int stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto text_of = [&](size_t length) {
      std::string text;
      for (size_t i = 0; i < length; ++i) text += std::string("ab\xc3\xb6")[number(4)];
      return text;
    };
    std::vector<std::string> stops;
    for (size_t i = number(4); i > 0; --i) stops.push_back(text_of(1 + number(5)));
    const std::string text = text_of(number(40)), expected = Expected(text, stops);
    ShownText shown(stops);
    std::string found;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::min(text.size() - at, number(6));
      found += shown.Add(std::string_view(text).substr(at, length));
      EXPECT_EQ(expected.compare(0, found.size(), found), 0);
      at += length;
    }
    stopped += shown.has_stopped() ? 1 : 0;
    EXPECT_EQ(found + shown.Rest(), expected);
  }
  EXPECT_GT(stopped, 300);
}

// Of a text in UTF-8 every piece that is shown is UTF-8.
TEST(ShownText, ShowsWholeCharactersOnly) {
  std::mt19937_64 random(FreshSeed());
  const std::string text = "a\xc3\xb6\xe2\x82\xac\xf0\x9f\x98\x80z\xc3\xa9\xc3\xa9\xf0\x9f\x8d\x8e.";
  for (int round = 0; round < 500; ++round) {
    ShownText shown({"\xc3\xa9\xc3\xa9!"});
    std::string found;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::min<size_t>(text.size() - at, 1 + random() % 3);
      const std::string piece = shown.Add(std::string_view(text).substr(at, length));
      EXPECT_EQ(FirstInvalidUtf8(piece), -1);
      found += piece;
      at += length;
    }
    EXPECT_EQ(found + shown.Rest(), text);
  }
}

}  // namespace
}  // namespace unipool
