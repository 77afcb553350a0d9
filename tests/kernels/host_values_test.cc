#include "kernels/host_values.h"

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

template <class T>
void CheckValues(const std::vector<double>& values, const std::vector<T>& expected) {
  TestStream stream;
  Array<T> to({static_cast<int64_t>(values.size())});
  SetValues(stream, values, to);
  stream.ExpectOneCall(Op::kReduce, static_cast<double>(values.size() * sizeof(T)));
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(to[static_cast<int64_t>(i)], expected[i]) << i;
}

TEST(HostValues, EveryTypeRounded) {
  CheckValues<double>({0.1, -3, 0x1p-60}, {0.1, -3, 0x1p-60});
  CheckValues<float>({0.1, -3, 1 + 0x1p-30}, {0.1f, -3, 1});
  CheckValues<int32_t>({7, 0.5, 1.5, -1.7, 2147483647}, {7, 0, 2, -2, 2147483647});
  CheckValues<int64_t>({7, 0x1p62, -2.5}, {7, int64_t{1} << 62, -2});
  CheckValues<float>({}, {});
}

TEST(HostValuesDeathTest, AnotherSize) {
  TestStream stream;
  const Array<float> to({3}, 0);
  EXPECT_DEATH(SetValues(stream, std::vector<double>{1, 2}, to), "SetValues");
}

}  // namespace
}  // namespace unipool
