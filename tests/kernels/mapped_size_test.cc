#include "kernels/cuda/mapped_size.h"

#include <gtest/gtest.h>

namespace unipool::cuda {
namespace {

constexpr int64_t kPiece = 2 << 20;

TEST(MappedSize, TheFirstTimeWhatIsWanted) {
  EXPECT_EQ(NextMapped(1, 0, 100 * kPiece, kPiece), kPiece);
  EXPECT_EQ(NextMapped(kPiece, 0, 100 * kPiece, kPiece), kPiece);
  EXPECT_EQ(NextMapped(kPiece + 1, 0, 100 * kPiece, kPiece), 2 * kPiece);
}

TEST(MappedSize, LaterASixteenthMore) {
  EXPECT_EQ(NextMapped(160 * kPiece + 1, 160 * kPiece, 1000 * kPiece, kPiece), 170 * kPiece);
  EXPECT_EQ(NextMapped(300 * kPiece, 160 * kPiece, 1000 * kPiece, kPiece), 300 * kPiece) << "more is wanted";
  EXPECT_EQ(NextMapped(160 * kPiece + 1, 160 * kPiece, 165 * kPiece, kPiece), 165 * kPiece)
      << "not beyond max";
  EXPECT_EQ(NextMapped(kPiece + 1, kPiece, 100 * kPiece, kPiece), 2 * kPiece) << "in whole pieces";
}

// Records that are broken by one row each: few growths, and never more than a sixteenth and a piece too much.
TEST(MappedSize, GrowsSeldomAndLittleTooFar) {
  int64_t mapped = 0;
  int growths = 0;
  for (int64_t bytes = 200 * kPiece; bytes <= 400 * kPiece; bytes += 1536) {
    if (bytes <= mapped) continue;
    const int64_t next = NextMapped(bytes, mapped, 1000 * kPiece, kPiece);
    ASSERT_GE(next, bytes);
    ASSERT_EQ(next % kPiece, 0);
    ASSERT_LE(next, bytes + bytes / kGrowthDivisor + kPiece);
    mapped = next;
    ++growths;
  }
  EXPECT_LE(growths, 13) << "just what is missing takes 201";
}

}  // namespace
}  // namespace unipool::cuda
