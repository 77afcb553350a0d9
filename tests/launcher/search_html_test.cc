#include "launcher/plan/search_html.h"

#include <gmock/gmock.h>

#include <regex>

namespace unipool {
namespace {

using testing::HasSubstr;
using testing::Not;

Layout LayoutOf(int ranks, double step, int64_t memory, bool is_best) {
  return {
      .settings = {"parallel.ranks=" + std::to_string(ranks), "train.micro_batch=" + std::to_string(memory)},
      .ranks = ranks,
      .step = step,
      .tokens_per_second = 1000 / step,
      .memory = memory,
      .memory_twice = 2 * memory,
      .is_best = is_best};
}

size_t Count(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return std::distance(std::sregex_iterator(text.begin(), text.end(), regex), std::sregex_iterator());
}

constexpr int64_t kGibibyte = 1 << 30;

TEST(SearchHtml, MarksWhatNothingBeatsAndTellsAllOfIt) {
  SearchResult result;
  result.layouts = {LayoutOf(8, 0.5, 6 * kGibibyte, true), LayoutOf(8, 1, 2 * kGibibyte, true),
                    LayoutOf(4, 2, 3 * kGibibyte, true), LayoutOf(4, 4, 4 * kGibibyte, false)};
  result.refused = {{"memory: <too> much", 7}};
  result.examples = {{"memory: <too> much", "an & example"}};
  result.left_out = {"16 ranks: no room"};
  result.num_candidates = 11;
  const std::string page = SearchHtml(result, 2, "a.txtpb", "unipool train x.txtpb");
  EXPECT_EQ(Count(page, "<circle[^>]*r=\"5\""), 3);
  EXPECT_EQ(Count(page, "<circle[^>]*r=\"2\""), 1);
  // Points of 8 ranks are of another color than those of 4, whose name comes first.
  EXPECT_EQ(Count(page, "<circle class=\"fb\"[^>]*r=\"5\""), 2);
  EXPECT_EQ(Count(page, "<circle class=\"fa\""), 2);
  EXPECT_THAT(page, HasSubstr("11 candidates, 4 of them validate and fit. Left out: 16 ranks: no room."));
  EXPECT_THAT(page, HasSubstr("unipool train x.txtpb parallel.ranks=8 train.micro_batch=6442450944"));
  EXPECT_EQ(Count(page, "<td>parallel.ranks=8 "), 4) << "both are among the fastest two and among the best";
  EXPECT_EQ(Count(page, "<td>parallel.ranks=4 "), 1);
  EXPECT_THAT(page, HasSubstr("memory: &lt;too&gt; much"));
  EXPECT_THAT(page, HasSubstr("an &amp; example"));
}

// Faster lies to the right, less memory below.
TEST(SearchHtml, PlacesPoints) {
  SearchResult result;
  result.layouts = {LayoutOf(8, 0.5, 6 * kGibibyte, true), LayoutOf(8, 1, 2 * kGibibyte, true)};
  const std::string page = SearchHtml(result, 2, "", "");
  const std::regex circle("<circle[^>]*cx=\"([0-9.]+)\" cy=\"([0-9.]+)\" r=\"5\"");
  std::vector<std::pair<double, double>> places;
  for (std::sregex_iterator it(page.begin(), page.end(), circle), end; it != end; ++it)
    places.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
  ASSERT_EQ(places.size(), 2);
  EXPECT_GT(places[0].first, places[1].first);
  EXPECT_LT(places[0].second, places[1].second);
}

// A page of hundreds of thousands of layouts stays small: of those that lie together one is drawn.
TEST(SearchHtml, DrawsOneOfManyInOnePlace) {
  SearchResult result;
  for (int i = 0; i < 50'000; ++i)
    result.layouts.push_back(LayoutOf(4, 1 + 1e-6 * i, (1 + i % 3) * kGibibyte, false));
  EXPECT_LT(SearchHtml(result, 10, "", "").size(), size_t{200'000});
}

TEST(SearchHtml, WithoutALayoutSaysWhy) {
  SearchResult result;
  result.refused = {{"train.global_batch: odd", 3}};
  result.num_candidates = 3;
  const std::string page = SearchHtml(result, 2, "", "");
  EXPECT_THAT(page, HasSubstr("No layout validates and fits"));
  EXPECT_THAT(page, Not(HasSubstr("<circle")));
}

}  // namespace
}  // namespace unipool
