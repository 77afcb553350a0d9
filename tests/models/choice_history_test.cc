// Smoothed counts of choices.
#include "models/lock/choice_history.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

using Counts = std::vector<double>;

TEST(ChoiceHistory, TheNewestWeighsMost) {
  ChoiceHistory history(5, 0.5, 2);
  EXPECT_EQ(history.Smoothed(), (Counts{0, 0}));
  history.Add(Counts{4, 0});
  EXPECT_EQ(history.Smoothed(), (Counts{4, 0})) << "one alone is itself";
  history.Add(Counts{6, 3});
  // Weights 1/3 and 2/3.
  EXPECT_NEAR(history.Smoothed()[0], 16. / 3, 1e-15);
  EXPECT_NEAR(history.Smoothed()[1], 2, 1e-15);
}

TEST(ChoiceHistory, OldOnesLeaveTheWindow) {
  ChoiceHistory history(2, 0.25, 1);
  for (const double count : {1000., 7., 14.}) history.Add(Counts{count});
  EXPECT_EQ(history.num(), 2);
  EXPECT_NEAR(history.Smoothed()[0], (0.25 * 14 + 0.1875 * 7) / 0.4375, 1e-12);
  history.Clear();
  EXPECT_EQ(history.Smoothed(), Counts{0});
}

TEST(ChoiceHistory, GoesOnFromItsRows) {
  ChoiceHistory one(3, 0.5, 2), other(3, 0.5, 2);
  one.Add(Counts{1, 2});
  one.Add(Counts{5, 9});
  other.rows() = one.rows();
  other.SetNum(one.num());
  one.Add(Counts{3, 3});
  other.Add(Counts{3, 3});
  EXPECT_EQ(other.Smoothed(), one.Smoothed());
}

}  // namespace
}  // namespace unipool
