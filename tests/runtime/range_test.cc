#include "runtime/range.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(EvenPartition, CoversEveryElementOnceWithLargerPartsFirst) {
  for (int64_t n = 0; n < 40; ++n) {
    for (int parts = 1; parts < 12; ++parts) {
      int64_t end = 0;
      for (int p = 0; p < parts; ++p) {
        const Range range = EvenPartition(n, parts, p);
        ASSERT_EQ(range.begin, end);
        ASSERT_EQ(range.size(), n / parts + (p < n % parts));
        end = range.end;
      }
      ASSERT_EQ(end, n);
    }
  }
}

TEST(EvenPartition, ExampleOfTheHeader) {
  EXPECT_EQ(EvenPartition(5, 2, 0).begin, 0);
  EXPECT_EQ(EvenPartition(5, 2, 0).end, 3);
  EXPECT_EQ(EvenPartition(5, 2, 1).begin, 3);
  EXPECT_EQ(EvenPartition(5, 2, 1).end, 5);
}

}  // namespace
}  // namespace unipool
