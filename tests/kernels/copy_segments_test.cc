#include "kernels/copy_segments.h"

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

// Bytes that tell where they came from; what no segment names stays.
TEST(CopySegments, EachSegmentAndNothingElse) {
  TestStream stream;
  std::vector<uint8_t> from(300), to(300, 0xee);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint8_t>(i % 233);
  const std::vector<Segment> segments = {{&from[200], &to[3], 17},
                                         {&from[7], &to[250], 50},
                                         {nullptr, nullptr, 0},
                                         {&from[100], &to[60], 64},
                                         {&from[0], &to[20], 1}};
  CopySegments(stream, segments);
  stream.ExpectOneCall(Op::kPermute, 2 * (17 + 50 + 64 + 1));
  std::vector<uint8_t> expected(300, 0xee);
  for (int i = 0; i < 17; ++i) expected[3 + i] = static_cast<uint8_t>(200 + i);
  for (int i = 0; i < 50; ++i) expected[250 + i] = static_cast<uint8_t>(7 + i);
  for (int i = 0; i < 64; ++i) expected[60 + i] = static_cast<uint8_t>(100 + i);
  expected[20] = 0;
  EXPECT_EQ(to, expected);
}

TEST(CopySegments, NoSegments) {
  TestStream stream;
  CopySegments(stream, {});
  stream.ExpectOneCall(Op::kPermute, 0);
}

TEST(CopySegmentsDeathTest, NegativeSize) {
  TestStream stream;
  char bytes[2] = {};
  const Segment wrong = {bytes, bytes + 1, -1};
  EXPECT_DEATH(CopySegments(stream, {&wrong, 1}), "-1");
}

}  // namespace
}  // namespace unipool
