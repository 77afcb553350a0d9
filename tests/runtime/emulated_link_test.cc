#include "runtime/emulated_link.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/random.h"

namespace unipool {
namespace {

// Against a line of whole seconds on which each block takes the first free place.
TEST(IncomingLink, ABlockTakesTheFirstGapThatIsLongEnough) {
  for (uint64_t trial = 0; trial < 200; ++trial) {
    IncomingLink link;
    std::vector<bool> busy(4000);
    for (int i = 0; i < 60; ++i) {
      const int ready = static_cast<int>(RandomBits(trial, 2 * i) % 200);
      const int seconds = static_cast<int>(RandomBits(trial, 2 * i + 1) % 6);
      int begin = ready;
      const auto fits = [&] {
        for (int k = 0; k < seconds; ++k) {
          if (busy[begin + k]) return false;
        }
        return true;
      };
      while (!fits()) ++begin;
      for (int k = 0; k < seconds; ++k) busy[begin + k] = true;
      ASSERT_EQ(link.Take(ready, seconds), begin) << "trial " << trial << ", block " << i;
    }
  }
}

TEST(IncomingLink, ExampleOfTheHeader) {
  IncomingLink link;
  EXPECT_EQ(link.Take(0, 1), 0);
  EXPECT_EQ(link.Take(5, 1), 5);
  EXPECT_EQ(link.Take(0, 2), 1);
  EXPECT_EQ(link.Take(0, 3), 6);
  EXPECT_EQ(link.Take(0.5, 0), 0.5) << "what takes no time waits for nobody";
}

TEST(IncomingLink, ForgetsGapsBeforeTheLast256BusyTimes) {
  IncomingLink link;
  for (int i = 0; i < 256; ++i) EXPECT_EQ(link.Take(2 * i, 1), 2 * i);
  EXPECT_EQ(link.Take(0, 1), 1) << "all gaps are known; this one joins two busy times";
  EXPECT_EQ(link.Take(600, 1), 600);
  EXPECT_EQ(link.Take(602, 1), 602) << "the first busy time, 0 .. 3, is forgotten";
  EXPECT_EQ(link.Take(0, 1), 3);
}

TEST(OutgoingLink, ServesBlocksInTheOrderTheyAreGiven) {
  OutgoingLink link;
  EXPECT_EQ(link.Take(1, 2), 1);
  EXPECT_EQ(link.Take(0, 1), 3) << "no gap is taken";
  EXPECT_EQ(link.Take(10, 1), 10);
}

}  // namespace
}  // namespace unipool
