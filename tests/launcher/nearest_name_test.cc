// What a mistyped name was meant to be.
#include "launcher/nearest_name.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(NearestName, CountsEditsWithoutCase) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("hidden", "HIDDEN"), 0);
  EXPECT_EQ(EditDistance("hiden", "hidden"), 1);    // insertion
  EXPECT_EQ(EditDistance("hiddden", "hidden"), 1);  // deletion
  EXPECT_EQ(EditDistance("hiddan", "hidden"), 1);   // replacement
  EXPECT_EQ(EditDistance("hidedn", "hidden"), 1);   // swap of neighbours
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
}

TEST(NearestName, SuggestsOnlyWhatIsNearEnough) {
  const std::vector<std::string> names = {"layers", "hidden", "heads", "kv_heads"};
  EXPECT_EQ(NearestName("hiden", names), "hidden");
  EXPECT_EQ(NearestName("head", names), "heads");
  EXPECT_EQ(NearestName("vocabulary", names), "");
  EXPECT_EQ(NearestName("x", {}), "");
  EXPECT_EQ(DidYouMean("hiden", names), "; did you mean hidden?");
  EXPECT_EQ(DidYouMean("vocabulary", names), "");
}

TEST(NearestName, JoinsNames) {
  EXPECT_EQ(JoinNames({}), "");
  EXPECT_EQ(JoinNames({"a"}), "a");
  EXPECT_EQ(JoinNames({"a", "b", "c"}), "a, b, c");
}

}  // namespace
}  // namespace unipool
