#include "kernels/rope.h"

#include <cmath>
#include <complex>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

const AttentionShape kShapes[] = {
    {1, 1, 1, 1, 2}, {2, 5, 4, 1, 16}, {3, 7, 2, 2, 32}, {1, 9, 6, 3, 10}, {0, 4, 2, 1, 8}};
constexpr double kBase = 1e6;

// Each pair as a complex number times e^(i position base^(-2j/d)).
Array<double> Rotated(const AttentionShape& shape, const Array<double>& qkv, double sign,
                      int64_t first_position) {
  Array<double> result = qkv;
  const int64_t d = shape.head_size;
  for (int64_t t = 0; t < shape.tokens(); ++t) {
    for (int64_t h = 0; h < shape.num_heads + shape.num_kv_heads; ++h) {
      for (int64_t j = 0; j < d / 2; ++j) {
        const int64_t low = t * shape.qkv_size() + h * d + j, high = low + d / 2;
        const double position = static_cast<double>(first_position + t % shape.sequence_length);
        const double angle =
            sign * position * std::pow(kBase, -2.0 * static_cast<double>(j) / static_cast<double>(d));
        const auto pair = std::complex<double>(qkv[low], qkv[high]) * std::polar(1.0, angle);
        result[low] = pair.real();
        result[high] = pair.imag();
      }
    }
  }
  return result;
}

template <class T>
class RopeTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(RopeTest, Types);

TYPED_TEST(RopeTest, RotatesQueriesAndKeysAndLeavesValues) {
  using T = TypeParam;
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 31);
  TestStream stream;
  for (const AttentionShape& shape : kShapes) {
    for (const int64_t first_position : {int64_t{0}, int64_t{3}}) {
      const int64_t positions = shape.sequence_length + first_position;
      Array<T> cos({positions, shape.head_size / 2}), sin({positions, shape.head_size / 2});
      FillRopeTables(kBase, cos, sin);
      auto qkv = RandomArray<T>(random, {shape.tokens(), shape.qkv_size()});
      const auto before = qkv;
      const auto wide = qkv.template As<double>();
      Rope(stream, shape, cos, sin, RopeDirection::kForward, qkv, first_position);
      EXPECT_EQ(stream.profile.cost(Op::kRope).calls, 1);
      stream.profile.Reset();
      const double bound = 4 * std::numeric_limits<T>::epsilon();
      ExpectNear(qkv, Rotated(shape, wide, 1, first_position), 0, bound);
      Rope(stream, shape, cos, sin, RopeDirection::kBackward, qkv, first_position);
      ExpectNear(qkv, before.template As<double>(), 0, 2 * bound);  // the inverse law
      stream.profile.Reset();
    }
  }
}

// The rotation is orthogonal, so its gradient is the rotation back: <R x, y> = <x, R' y>.
TEST(RopeAdjoint, BackwardIsTheTranspose) {
  const AttentionShape shape{2, 6, 4, 2, 12};
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 32);
  TestStream stream;
  Array<double> cos({6, 6}), sin({6, 6});
  FillRopeTables(kBase, cos, sin);
  const auto x = RandomArray<double>(random, {12, shape.qkv_size()}),
             y = RandomArray<double>(random, {12, shape.qkv_size()});
  Array<double> rotated_x = x, rotated_y = y;
  Rope(stream, shape, cos, sin, RopeDirection::kForward, rotated_x);
  Rope(stream, shape, cos, sin, RopeDirection::kBackward, rotated_y);
  double left = 0, right = 0, unrotated = 0;
  for (int64_t i = 0; i < x.size(); ++i) {
    left += rotated_x[i] * y[i];
    right += x[i] * rotated_y[i];
    unrotated += x[i] * y[i];
  }
  EXPECT_NEAR(left, right, 1e-12);
  EXPECT_GT(std::abs(left - unrotated), 1e-3);
}

}  // namespace
}  // namespace unipool
