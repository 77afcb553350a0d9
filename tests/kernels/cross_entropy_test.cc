#include "kernels/cross_entropy.h"

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

Array<int32_t> RandomTargets(std::mt19937_64& random, int64_t rows, int64_t vocabulary) {
  Array<int32_t> targets({rows});
  for (int64_t t = 0; t < rows; ++t) targets[t] = static_cast<int32_t>(UniformInt(random, vocabulary));
  return targets;
}

// Plain double computation of losses and of grad_scale * (softmax - onehot).
template <class T>
void Reference(const Array<T>& logits, const Array<int32_t>& targets, double grad_scale,
               Array<double>& losses, Array<double>& gradient) {
  const int64_t vocabulary = logits.tensor().dim(1);
  for (int64_t t = 0; t < targets.size(); ++t) {
    long double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < vocabulary; ++i) max = std::max<long double>(max, logits[t * vocabulary + i]);
    for (int64_t i = 0; i < vocabulary; ++i) sum += std::exp(logits[t * vocabulary + i] - max);
    losses[t] = std::log(sum) + max - logits[t * vocabulary + targets[t]];
    for (int64_t i = 0; i < vocabulary; ++i) {
      const double p = std::exp(logits[t * vocabulary + i] - max) / sum;
      gradient[t * vocabulary + i] = grad_scale * (p - (i == targets[t]));
    }
  }
}

template <class T>
constexpr double kLossBound = 1e-13;
template <class T>
constexpr double kGradientBound = 1e-13;
template <>
constexpr double kLossBound<float> = 5e-7;
template <>
constexpr double kGradientBound<float> = 1e-6;

template <class T>
void Check(int64_t rows, int64_t vocabulary, double spread) {
  SCOPED_TRACE(testing::Message() << rows << " x " << vocabulary << " spread " << spread);
  constexpr double kScale = 0.37;
  std::mt19937_64 random(rows + vocabulary);
  TestStream stream;
  Array<T> logits = RandomArray<T>(random, {rows, vocabulary}, -spread, spread);
  const Array<T> before = logits;
  const Array<int32_t> targets = RandomTargets(random, rows, vocabulary);
  Array<double> expected_losses({rows}), expected_gradient({rows, vocabulary}), losses({rows}), again({rows});
  Reference(logits, targets, kScale, expected_losses, expected_gradient);

  CrossEntropy(stream, logits, targets, 0, losses);
  stream.ExpectOneCall(Op::kCrossEntropy, rows * (vocabulary * sizeof(T) + 12));
  EXPECT_TRUE(logits.BitEquals(before));
  ExpectNear(losses, expected_losses, kLossBound<T>, kLossBound<T>);

  CrossEntropy(stream, logits, targets, kScale, again);
  stream.ExpectOneCall(Op::kCrossEntropy, rows * (2 * vocabulary * sizeof(T) + 12));
  EXPECT_TRUE(again.BitEquals(losses));
  ExpectNear(logits, expected_gradient, kGradientBound<T>, kGradientBound<T> * kScale);
}

TEST(CrossEntropy, MatchesPlainComputation) {
  for (const int64_t rows : {0, 1, 5}) {
    for (const int64_t vocabulary : {1, 17, 31, 256, 1000, 50257}) {
      Check<float>(rows, vocabulary, 8);
      Check<double>(rows, vocabulary, 8);
    }
  }
}

TEST(CrossEntropy, FarLogitsStayFinite) {
  Check<float>(3, 100, 3e4);
  Check<double>(3, 100, 3e4);
}

TEST(CrossEntropy, GradientMatchesFiniteDifferences) {
  constexpr double kScale = 1.7;
  for (const int64_t vocabulary : {2, 17, 40}) {
    std::mt19937_64 random(vocabulary);
    TestStream stream;
    Array<double> logits = RandomArray<double>(random, {3, vocabulary}, -2, 2), gradient = logits,
                  losses({3});
    const Array<int32_t> targets = RandomTargets(random, 3, vocabulary);
    CrossEntropy(stream, gradient, targets, kScale, losses);
    ExpectGradient(gradient, logits, [&] {
      CrossEntropy(stream, logits, targets, 0, losses);
      return kScale * (losses[0] + losses[1] + losses[2]);
    });
  }
}

TEST(CrossEntropy, NotANumberIsNotHidden) {
  TestStream stream;
  Array<float> logits({1, 40}, 0);
  logits[7] = Poison<float>();
  const Array<int32_t> targets({1}, 3);
  Array<double> losses({1}, 0);
  CrossEntropy(stream, logits, targets, 0, losses);
  EXPECT_TRUE(std::isnan(losses[0]));
}

TEST(CrossEntropyDeathTest, TargetOutOfRangeAndWrongShape) {
  TestStream stream;
  const Array<float> logits({2, 4}, 0);
  const Array<int32_t> targets({2}, 4), few({1}, 0);
  Array<double> losses({2});
  EXPECT_DEATH(CrossEntropy(stream, logits, targets, 0, losses), "target 4 of a vocabulary of 4");
  EXPECT_DEATH(CrossEntropy(stream, logits, few, 0, losses), "\\[1\\].*\\[2\\]");
}

}  // namespace
}  // namespace unipool
