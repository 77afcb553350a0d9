#include "kernels/rms_norm.h"

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

constexpr double kEps = 1e-5;

template <class T>
constexpr double kBound = 1e-14;
template <>
constexpr double kBound<float> = 1e-6;

template <class T>
void CheckForward(int64_t rows, int64_t width) {
  SCOPED_TRACE(testing::Message() << rows << " x " << width);
  std::mt19937_64 random(rows * 1000 + width);
  TestStream stream;
  const Array<T> x = RandomArray<T>(random, {rows, width}, -0.1, 0.2),
                 weight = RandomArray<T>(random, {width});
  Array<T> y({rows, width}), inv_rms({rows});
  RmsNormForward(stream, x, weight, kEps, y, inv_rms);
  stream.ExpectOneCall(Op::kRmsNorm, (2 * rows * width + width + rows) * sizeof(T));
  Array<double> expected({rows, width}), expected_inv_rms({rows});
  for (int64_t t = 0; t < rows; ++t) {
    double sum = 0;
    for (int64_t j = 0; j < width; ++j) sum += static_cast<double>(x[t * width + j]) * x[t * width + j];
    expected_inv_rms[t] = 1 / std::sqrt(sum / width + kEps);
    for (int64_t j = 0; j < width; ++j) {
      expected[t * width + j] = x[t * width + j] * expected_inv_rms[t] * weight[j];
    }
  }
  ExpectNear(y, expected, kBound<T>, 0);
  ExpectNear(inv_rms, expected_inv_rms, kBound<T>, 0);
}

TEST(RmsNorm, ForwardMatchesPlainComputation) {
  for (const int64_t rows : {0, 1, 5}) {
    for (const int64_t width : {1, 17, 31, 64, 1000}) {
      CheckForward<float>(rows, width);
      CheckForward<double>(rows, width);
    }
  }
}

TEST(RmsNorm, ZeroRowStaysZero) {
  TestStream stream;
  const Array<float> x({1, 17}, 0), weight({17}, 3);
  Array<float> y({1, 17}), inv_rms({1});
  RmsNormForward(stream, x, weight, kEps, y, inv_rms);
  for (int64_t j = 0; j < 17; ++j) EXPECT_EQ(y[j], 0);
}

// All inputs of one backward at random, and its outputs.
template <class T>
struct Case {
  Case(std::mt19937_64& random, int64_t rows, int64_t width)
      : x(RandomArray<T>(random, {rows, width})),
        weight(RandomArray<T>(random, {width})),
        dy(RandomArray<T>(random, {rows, width})),
        residual(RandomArray<T>(random, {rows, width})),
        dweight(RandomArray<T>(random, {width})),
        y({rows, width}),
        inv_rms({rows}),
        dx({rows, width}) {}
  void Run(Stream& stream) {
    RmsNormForward(stream, x, weight, kEps, y, inv_rms);
    RmsNormBackward(stream, x, weight, inv_rms, dy, residual, dx, dweight);
  }
  Array<T> x, weight, dy, residual, dweight, y, inv_rms, dx;
};

TEST(RmsNorm, BackwardMatchesFiniteDifferences) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 2}, {3, 17}, {2, 31}}) {
    std::mt19937_64 random(width);
    TestStream stream;
    Case<double> c(random, rows, width);
    const Array<double> dweight_before = c.dweight;
    c.Run(stream);
    Array<double> dx_of_norm = c.dx, dweight_added = c.dweight;
    for (int64_t i = 0; i < c.dx.size(); ++i) dx_of_norm[i] -= c.residual[i];
    for (int64_t j = 0; j < width; ++j) dweight_added[j] -= dweight_before[j];
    const auto loss = [&] {
      RmsNormForward(stream, c.x, c.weight, kEps, c.y, c.inv_rms);
      double sum = 0;
      for (int64_t i = 0; i < c.y.size(); ++i) sum += c.dy[i] * c.y[i];
      return sum;
    };
    ExpectGradient(dx_of_norm, c.x, loss);
    ExpectGradient(dweight_added, c.weight, loss);
  }
}

TEST(RmsNorm, ResidualGradientMayBeTheOutput) {
  std::mt19937_64 random(3);
  TestStream stream;
  Case<float> apart(random, 4, 1000), in_place = apart;
  apart.Run(stream);
  RmsNormForward(stream, in_place.x, in_place.weight, kEps, in_place.y, in_place.inv_rms);
  stream.profile.Reset();
  RmsNormBackward(stream, in_place.x, in_place.weight, in_place.inv_rms, in_place.dy, in_place.residual,
                  in_place.residual, in_place.dweight);
  stream.ExpectOneCall(Op::kRmsNorm, (4 * 4 * 1000 + 3 * 1000 + 4) * sizeof(float));
  EXPECT_TRUE(in_place.residual.BitEquals(apart.dx));
  EXPECT_TRUE(in_place.dweight.BitEquals(apart.dweight));
}

TEST(RmsNorm, SingleIsNearDouble) {
  for (const int64_t rows : {0, 1, 300}) {
    std::mt19937_64 random(rows);
    TestStream stream;
    Case<float> c(random, rows, 100);
    Array<double> dx({rows, 100}), dweight = c.dweight.As<double>(), inv_rms({rows}), y({rows, 100});
    const Array<double> x = c.x.As<double>(), weight = c.weight.As<double>();
    RmsNormForward(stream, x, weight, kEps, y, inv_rms);
    RmsNormBackward(stream, x, weight, inv_rms, c.dy.As<double>(), c.residual.As<double>(), dx, dweight);
    c.Run(stream);
    ExpectNear(c.dx, dx, 2e-6, 2e-6);
    ExpectNear(c.dweight, dweight, 1e-5, 1e-5);  // 300 additions
  }
}

TEST(RmsNormDeathTest, MismatchPrintsBothShapes) {
  TestStream stream;
  const Array<float> x({2, 7}, 0), weight({8}, 0), y({2, 7}, 0), inv_rms({2}, 0);
  EXPECT_DEATH(RmsNormForward(stream, x, weight, kEps, y, inv_rms), "weight.*\\[8\\].*\\[7\\]");
}

}  // namespace
}  // namespace unipool
