// When a run ends because the lock made it worse.
#include "models/lock/quality_guard.h"

#include <gtest/gtest.h>

#include <vector>

namespace unipool {
namespace {

// The first loss is that of the freeze. Number of the validation that ends the run, from 0; -1: none.
int EndOf(const std::vector<double>& losses, double excess = 0.05, int consecutive = 2) {
  QualityGuard guard(excess, consecutive);
  guard.SetReference(losses[0]);
  for (size_t i = 1; i < losses.size(); ++i) {
    if (guard.IsTooHigh(losses[i])) return static_cast<int>(i);
  }
  return -1;
}

TEST(QualityGuard, TwoInARowAreTooMuch) {
  EXPECT_EQ(EndOf({3.0, 3.06, 3.07}), 2);
  EXPECT_EQ(EndOf({3.0, 3.06, 3.04, 3.06, 3.05, 3.2}), -1) << "never two in a row";
  EXPECT_EQ(EndOf({3.0, 2.9, 3.2, 3.3}), 3);
}

TEST(QualityGuard, CanBeStricterOrOff) {
  EXPECT_EQ(EndOf({3.0, 3.02}, 0.01, 1), 1);
  EXPECT_EQ(EndOf({3.0, 9, 9, 9}, 0.05, 0), -1);
}

TEST(QualityGuard, TellsTheExcess) {
  QualityGuard guard(0.05, 2);
  EXPECT_EQ(guard.ExcessOf(3), 0) << "there is no reference";
  guard.SetReference(2.5);
  EXPECT_EQ(guard.ExcessOf(3), 0.5);
  guard.IsTooHigh(3);
  QualityGuard other(0.05, 2);
  other.state() = guard.state();
  EXPECT_TRUE(other.IsTooHigh(3)) << "a restart counts on";
}

}  // namespace
}  // namespace unipool
