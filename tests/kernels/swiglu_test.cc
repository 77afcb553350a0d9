#include "kernels/swiglu.h"

#include "kernels/cpu/fast_exp.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

double Silu(double x) {
  return x / (1 + std::exp(-x));
}

template <class T>
constexpr double kBound = 1e-14;
template <>
constexpr double kBound<float> = 1e-6;

template <class T>
void CheckForward(int64_t rows, int64_t width) {
  SCOPED_TRACE(testing::Message() << rows << " x " << width);
  std::mt19937_64 random(rows * 1000 + width);
  TestStream stream;
  const Array<T> gate_up = RandomArray<T>(random, {rows, 2 * width}, -12, 12);
  Array<T> activation({rows, width});
  SwigluForward(stream, gate_up, activation);
  stream.ExpectOneCall(Op::kSwiglu, 3 * rows * width * sizeof(T));
  Array<double> expected({rows, width});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < width; ++j) {
      const double gate = gate_up[r * 2 * width + j], up = gate_up[r * 2 * width + width + j];
      expected[r * width + j] = Silu(gate) * up;
    }
  }
  ExpectNear(activation, expected, kBound<T>, 1e-30);
}

TEST(Swiglu, ForwardMatchesPlainComputation) {
  for (const int64_t rows : {0, 1, 5}) {
    for (const int64_t width : {1, 17, 31, 64, 1000}) {
      CheckForward<float>(rows, width);
      CheckForward<double>(rows, width);
    }
  }
}

TEST(Swiglu, FarValuesStayFinite) {
  TestStream stream;
  Array<float> gate_up({1, 6}, 2), dactivation({1, 3}, 1), activation({1, 3}), again({1, 3}),
      dgate_up({1, 6});
  gate_up[0] = -1000;
  gate_up[1] = 1000;
  gate_up[2] = -88;
  SwigluForward(stream, gate_up, activation);
  SwigluBackward(stream, gate_up, dactivation, dgate_up, again);
  const double expected_activation[] = {0, 2000, 0}, expected_gradient[] = {0, 2, 0, 0, 1000, 0};
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(activation[i], expected_activation[i], 1e-30);
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(dgate_up[i], expected_gradient[i], 1e-30) << i;
}

TEST(Swiglu, BackwardMatchesFiniteDifferences) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {3, 17}, {2, 31}}) {
    std::mt19937_64 random(width);
    TestStream stream;
    Array<double> gate_up = RandomArray<double>(random, {rows, 2 * width}, -4, 4);
    const Array<double> dactivation = RandomArray<double>(random, {rows, width});
    Array<double> dgate_up({rows, 2 * width}), again({rows, width}), activation({rows, width});
    SwigluBackward(stream, gate_up, dactivation, dgate_up, again);
    stream.ExpectOneCall(Op::kSwiglu, 6 * rows * width * sizeof(double));
    const auto loss = [&] {
      SwigluForward(stream, gate_up, activation);
      double sum = 0;
      for (int64_t i = 0; i < activation.size(); ++i) sum += dactivation[i] * activation[i];
      return sum;
    };
    loss();
    ExpectNear(again, activation, 1e-15, 0);  // the backward's second output
    ExpectGradient(dgate_up, gate_up, loss);
  }
}

TEST(Swiglu, SingleIsNearDouble) {
  for (const int64_t rows : {0, 1, 4}) {
    std::mt19937_64 random(rows);
    TestStream stream;
    const int64_t width = 1000;
    const Array<float> gate_up = RandomArray<float>(random, {rows, 2 * width}, -6, 6);
    const Array<float> dactivation = RandomArray<float>(random, {rows, width});
    Array<float> dgate_up({rows, 2 * width}), activation({rows, width});
    Array<double> dgate_up_double({rows, 2 * width}), activation_double({rows, width});
    SwigluBackward(stream, gate_up, dactivation, dgate_up, activation);
    SwigluBackward(stream, gate_up.As<double>(), dactivation.As<double>(), dgate_up_double,
                   activation_double);
    ExpectNear(activation, activation_double, 1e-6, 1e-30);
    ExpectNear(dgate_up, dgate_up_double, 1e-6, 2e-6);  // silu' passes through 0: an absolute bound there
  }
}

TEST(FastExp, IsWithinTwoTenMillionths) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 1000000; ++i) {
    const float x = static_cast<float>(Uniform(random, -86.6, 88.72));
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_NEAR(FastExp(x) / exact, 1, 2e-7) << x;
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(FastExp(0.0f), 1.0f);
  EXPECT_EQ(FastExp(-86.7f), 0.0f);
  EXPECT_EQ(FastExp(-kInfinity), 0.0f);
  EXPECT_EQ(FastExp(88.8f), kInfinity);
  EXPECT_EQ(FastExp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(FastExp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(SwigluDeathTest, MismatchPrintsBothShapes) {
  TestStream stream;
  const Array<float> gate_up({2, 7}, 0), activation({2, 4}, 0);
  EXPECT_DEATH(SwigluForward(stream, gate_up, activation), "\\[2, 7\\].*\\[2, 8\\]");
}

}  // namespace
}  // namespace unipool
