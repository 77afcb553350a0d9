#include "runtime/sum_rounds.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(SumRounds, PiecesFillARoundAndHaveALeastSize) {
  EXPECT_EQ(SumPieceElements(10, 4, 2, kHostSumRoundBytes), 5);                      // all of a part
  EXPECT_EQ(SumPieceElements(1 << 24, 4, 4, kHostSumRoundBytes), 1 << 18);           // 1 MiB of each rank
  EXPECT_EQ(SumPieceElements(1 << 28, 4, 1024, kHostSumRoundBytes), 64 * 1024 / 4);  // not less than 64 KiB
  EXPECT_EQ(SumPieceElements(1 << 28, 4, 1024, kAllAtOnce), 1 << 18);
  EXPECT_EQ(SumPieceElements(0, 8, 3, kHostSumRoundBytes), 1);
}

}  // namespace
}  // namespace unipool
