#include "kernels/adamw.h"

#include "kernels/reduce.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

// The header's formula, one element at a time in extended precision.
struct Element {
  long double p, m = 0, v = 0;
  void Step(const AdamWArgs& args, long double grad) {
    const long double b1 = args.beta1, b2 = args.beta2, t = args.step, g = grad * args.grad_scale;
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    const long double m_hat = m / (1 - std::pow(b1, t)), v_hat = v / (1 - std::pow(b2, t));
    p -= args.lr * (m_hat / (std::sqrt(v_hat) + args.eps) + args.weight_decay * p);
  }
};

template <class T>
constexpr double kBound = 1e-14;
template <>
constexpr double kBound<float> = 1e-6;

// Five steps; the fourth has no gradient, so that only the moments move it.
template <class T>
void CheckSteps(int64_t n) {
  SCOPED_TRACE(n);
  std::mt19937_64 random(n + 1);
  TestStream stream;
  Array<T> p = RandomArray<T>(random, {n}), m({n}, 0), v({n}, 0);
  std::vector<Element> elements;
  for (int64_t i = 0; i < n; ++i) elements.push_back({p[i]});
  for (int step = 1; step <= 5; ++step) {
    const AdamWArgs args = {.lr = 0.01 / step,
                            .beta1 = 0.9,
                            .beta2 = 0.95,
                            .weight_decay = 0.1,
                            .grad_scale = 0.25 * step,
                            .step = step};
    const Array<T> grad = RandomArray<T>(random, {n}, -0.5, 2);
    const bool with_grad = step != 4;
    AdamW(stream, args, p, with_grad ? grad.tensor() : Tensor(), m, v);
    stream.ExpectOneCall(Op::kOptimizer, (with_grad ? 7 : 6) * n * sizeof(T));
    for (int64_t i = 0; i < n; ++i) elements[i].Step(args, with_grad ? grad[i] : T(0));
  }
  Array<double> expected_p({n}), expected_m({n}), expected_v({n});
  for (int64_t i = 0; i < n; ++i) {
    expected_p[i] = elements[i].p;
    expected_m[i] = elements[i].m;
    expected_v[i] = elements[i].v;
  }
  ExpectNear(p, expected_p, kBound<T>, kBound<T> * 0.1);
  ExpectNear(m, expected_m, kBound<T>, kBound<T> * 0.1);
  ExpectNear(v, expected_v, kBound<T>, kBound<T> * 0.1);
}

TEST(AdamW, StepsMatchExtendedPrecision) {
  for (const int64_t n : {0, 1, 17, 31, 64, 1000}) {
    CheckSteps<float>(n);
    CheckSteps<double>(n);
  }
}

TEST(AdamW, EpsIsOutsideTheRoot) {
  TestStream stream;
  Array<double> p({1}, 1), m({1}, 0), v({1}, 0);
  const Array<double> grad({1}, 1e-8);
  AdamW(stream, {.lr = 1, .eps = 1e-8}, p, grad, m, v);
  EXPECT_NEAR(p[0], 0.5, 1e-12);  // 1 - 1e-8 / (1e-8 + 1e-8)
}

TEST(AdamW, ZeroGradientsAndMomentsOnlyDecay) {
  TestStream stream;
  Array<float> p({33}, 2), m({33}, 0), v({33}, 0);
  AdamW(stream, {.lr = 0.5, .weight_decay = 0.5}, p, {}, m, v);
  for (int64_t i = 0; i < 33; ++i) EXPECT_EQ(p[i], 1.5f);
}

// Each member as if it were alone, with the factor that the norm of all gradients asks for.
TEST(AdamW, GroupIsEachClippedByTheNormOfAll) {
  std::mt19937_64 random(3);
  TestStream stream;
  const Array<float> grad_a = RandomArray<float>(random, {40}), grad_b = RandomArray<float>(random, {9});
  Array<double> squares({1}, 0);
  AddSumOfSquares(stream, grad_a, squares);
  AddSumOfSquares(stream, grad_b, squares);
  const double norm = 0.5 * std::sqrt(squares[0]);
  for (const double most : {0.75 * norm, 1.25 * norm}) {
    Array<float> p_a = RandomArray<float>(random, {40}), p_b = RandomArray<float>(random, {9});
    Array<float> alone_a = p_a, alone_b = p_b, m_a({40}, 0), m_b({9}, 0), v_a = m_a, v_b = m_b, copy({40});
    AdamWArgs args = {.lr = 0.1, .eps = 1, .grad_scale = 0.5, .max_grad_norm = most, .grad_squares = squares};
    const AdamWTensors group[] = {{.param = p_a, .grad = grad_a, .m = m_a, .v = v_a, .copy = copy},
                                  {.param = p_b, .grad = grad_b, .m = m_b, .v = v_b}};
    AdamWGroup(stream, args, group);
    args.max_grad_norm = 0;
    args.grad_scale = std::min(0.5, 0.5 * (most / norm));
    Array<float> m({40}, 0), v({40}, 0), n({9}, 0), w({9}, 0);
    AdamW(stream, args, alone_a, grad_a, m, v);
    AdamW(stream, args, alone_b, grad_b, n, w);
    EXPECT_TRUE(p_a.BitEquals(alone_a) && p_b.BitEquals(alone_b));
    EXPECT_TRUE(m_a.BitEquals(m) && v_b.BitEquals(w));
    EXPECT_TRUE(copy.BitEquals(p_a));
  }
}

// No bit moves unless all numbers of `finite` are; the copy neither.
TEST(AdamW, NumbersThatAreNoneLeaveEverything) {
  TestStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<double>> cases = {{4, 1}, {nan, 1}, {4, nan}, {4, -inf}, {inf, 1}};
  for (const std::vector<double>& numbers : cases) {
    SCOPED_TRACE(testing::Message() << numbers[0] << ", " << numbers[1]);
    Array<double> finite({2});
    for (int i = 0; i < 2; ++i) finite[i] = numbers[i];
    Array<float> p({40}, 2), m({40}, 3), v({40}, 4), copy({40}, 2), grad({40}, 1);
    const Array<float> old_p = p, old_m = m, old_v = v, old_copy = copy;
    const AdamWArgs args = {
        .lr = 0.5, .max_grad_norm = 1, .grad_squares = finite.tensor().Rows(0, 1), .finite = finite};
    const AdamWTensors tensors = {.param = p, .grad = grad, .m = m, .v = v, .copy = copy};
    AdamWGroup(stream, args, {&tensors, 1});
    const bool is_written = numbers == cases[0];
    for (const bool same :
         {p.BitEquals(old_p), m.BitEquals(old_m), v.BitEquals(old_v), copy.BitEquals(old_copy)})
      EXPECT_EQ(same, !is_written);
  }
}

TEST(AdamWDeathTest, MismatchPrintsBothShapes) {
  TestStream stream;
  const Array<float> p({2, 3}, 0), m({2, 3}, 0), v({5}, 0), grad({6}, 0);
  EXPECT_DEATH(AdamW(stream, {}, p, grad, m, v), "v is F32 \\[5\\].*\\[2, 3\\]");
  EXPECT_DEATH(AdamW(stream, {.step = 0}, p, grad, m, m), "counts steps from 1");
}

}  // namespace
}  // namespace unipool
