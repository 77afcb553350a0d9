#include "kernels/gemm.h"

#include <cmath>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

struct Case {
  int64_t m, n, k;
};
// Nothing, single rows and columns, one less and one more than tiles, panels and blocks, and the three orders
// of blocking.
const Case kCases[] = {{0, 5, 3},      {5, 0, 3},      {1, 1, 1},     {1, 64, 256}, {3, 17, 300},
                       {4, 130, 33},   {5, 48, 513},   {13, 31, 29},  {14, 32, 64}, {15, 33, 65},
                       {32, 50, 256},  {33, 97, 700},  {64, 64, 20},  {100, 70, 9}, {257, 40, 530},
                       {530, 257, 47}, {64, 300, 300}, {470, 65, 270}};

Trans AsTrans(bool transposed) {
  return transposed ? Trans::kYes : Trans::kNo;
}

// op(a) op(b) + beta c, written from the definition.
template <class T>
Array<double> Reference(Case size, bool ta, const Array<T>& a, bool tb, const Array<T>& b, double beta,
                        const Array<T>& c) {
  Array<double> result({size.m, size.n});
  for (int64_t i = 0; i < size.m; ++i) {
    for (int64_t j = 0; j < size.n; ++j) {
      double sum = beta == 0 ? 0 : beta * c[i * size.n + j];
      for (int64_t l = 0; l < size.k; ++l) {
        sum += static_cast<double>(ta ? a[l * size.m + i] : a[i * size.k + l]) *
               static_cast<double>(tb ? b[j * size.k + l] : b[l * size.n + j]);
      }
      result[i * size.n + j] = sum;
    }
  }
  return result;
}

template <class T>
class GemmTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(GemmTest, Types);

TYPED_TEST(GemmTest, EqualsItsDefinitionForAllTransposesAndSizes) {
  using T = TypeParam;
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 11);
  TestStream stream;
  for (const Case size : kCases) {
    for (int variant = 0; variant < 8; ++variant) {
      const bool ta = variant & 1, tb = variant & 2;
      const float beta = variant & 4 ? 0.5f : 0.0f;
      const auto a = ta ? RandomArray<T>(random, {size.k, size.m}) : RandomArray<T>(random, {size.m, size.k});
      const auto b = tb ? RandomArray<T>(random, {size.n, size.k}) : RandomArray<T>(random, {size.k, size.n});
      Array<T> c({size.m, size.n});  // NaN, which beta = 0 must not let through
      for (int64_t i = 0; beta != 0 && i < c.size(); ++i) c[i] = static_cast<T>(Uniform(random, -1, 1));
      const auto expected = Reference(size, ta, a, tb, b, beta, c);
      SCOPED_TRACE(testing::Message()
                   << size.m << " x " << size.n << " x " << size.k << " variant " << variant);
      Gemm(stream, AsTrans(ta), a, AsTrans(tb), b, beta, c);
      const double bytes = sizeof(T) * (static_cast<double>(size.m * size.k + size.k * size.n) +
                                        (beta == 0 ? 1.0 : 2.0) * static_cast<double>(size.m * size.n));
      EXPECT_EQ(stream.profile.cost(Op::kGemm).flops, 2.0 * static_cast<double>(size.m * size.n * size.k));
      stream.ExpectOneCall(Op::kGemm, bytes);
      // Rounding of a sum of k products of numbers below 1, in any order; a missing product would be 1000
      // times that.
      const double bound = std::numeric_limits<T>::epsilon() * static_cast<double>(4 + size.k);
      ExpectNear(c, expected, 0, bound);
    }
  }
}

TYPED_TEST(GemmTest, WithoutProductsScalesTheResult) {
  using T = TypeParam;
  std::mt19937_64 random(12);
  TestStream stream;
  const Array<T> a({7, 0}), b({0, 9});
  auto c = RandomArray<T>(random, {7, 9});
  Array<double> half({7, 9});
  for (int64_t i = 0; i < c.size(); ++i) half[i] = 0.5 * static_cast<double>(c[i]);
  Gemm(stream, Trans::kNo, a, Trans::kNo, b, 0.5f, c);
  ExpectNear(c, half, 0, 0);
  Array<T> poisoned({7, 9});
  Gemm(stream, Trans::kNo, a, Trans::kNo, b, 0, poisoned);
  ExpectNear(poisoned, Array<double>({7, 9}, 0.0), 0, 0);
}

// Values name their place (row * 100 + column), small enough to be exact, so a wrong element shows where it
// came from.
TYPED_TEST(GemmTest, StridedTouchesOnlyItsSubMatrix) {
  using T = TypeParam;
  const int64_t m = 29, n = 37, k = 18, lda = 50, ldb = 41, ldc = 60;
  Array<T> a({m, lda}), b({k, ldb}), c({m, ldc});
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t l = 0; l < k; ++l) a[i * lda + l] = static_cast<T>(l == i % k ? 1 : 0);
  }
  for (int64_t l = 0; l < k; ++l) {
    for (int64_t j = 0; j < n; ++j) b[l * ldb + j] = static_cast<T>(100 * l + j);
  }
  GemmStrided<T>(Trans::kNo, Trans::kNo, {m, n, k}, 2, &a[0], lda, &b[0], ldb, 0, &c[0], ldc);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < ldc; ++j) {
      if (j < n) {
        ASSERT_EQ(c[i * ldc + j], static_cast<T>(2 * (100 * (i % k) + j))) << i << ", " << j;
      } else {
        ASSERT_TRUE(std::isnan(c[i * ldc + j])) << i << ", " << j;
      }
    }
  }
}

// The result depends on the values and sizes alone: not on where the arrays lie or what was computed before.
TEST(GemmRepeatability, IsBitIdentical) {
  std::mt19937_64 random(13);
  TestStream stream;
  const auto a = RandomArray<float>(random, {45, 300}), b = RandomArray<float>(random, {200, 300});
  Array<float> first({45, 200}), second({45, 200}), other({300, 300});
  Gemm(stream, Trans::kNo, a, Trans::kYes, b, 0, first);
  Gemm(stream, Trans::kYes, a, Trans::kNo, a, 0, other);
  Gemm(stream, Trans::kNo, Array<float>(a), Trans::kYes, Array<float>(b), 0, second);
  EXPECT_TRUE(first.BitEquals(second));
}

}  // namespace
}  // namespace unipool
