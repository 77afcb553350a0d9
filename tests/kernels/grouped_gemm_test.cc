#include "kernels/grouped_gemm.h"

#include <cmath>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

struct Case {
  std::vector<int64_t> rows;  // of each group
  int64_t outer, inner;
};
const Case kCases[] = {
    {{0}, 8, 5},                            // nothing at all
    {{1}, 24, 17},                          // one expert, one row
    {{100}, 33, 40},                        // one expert
    {{0, 0, 70, 0}, 32, 64},                // all rows to one expert
    {{0, 5, 16, 0, 1, 33, 4, 0}, 130, 65},  // empty groups first, between and last
    {{12, 64, 31, 200}, 64, 272},
};

std::vector<int64_t> Offsets(const Case& test) {
  std::vector<int64_t> offsets{0};
  for (int64_t rows : test.rows) offsets.push_back(offsets.back() + rows);
  return offsets;
}

template <class T>
double Tolerance(int64_t terms) {
  return std::numeric_limits<T>::epsilon() * static_cast<double>(4 + terms);
}

template <class T>
class GroupedGemmTest : public testing::Test {
 protected:
  std::mt19937_64 random{static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 21};
  TestStream stream;
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(GroupedGemmTest, Types);

TYPED_TEST(GroupedGemmTest, ForwardAndInputGradientUseEachGroupsOwnMatrix) {
  using T = TypeParam;
  for (const Case& test : kCases) {
    const auto offsets = Offsets(test);
    const int64_t e_count = static_cast<int64_t>(test.rows.size()), r = offsets.back(), o = test.outer,
                  i = test.inner;
    const auto w = RandomArray<T>(this->random, {e_count, o, i});
    const auto x = RandomArray<T>(this->random, {r, i}), dy = RandomArray<T>(this->random, {r, o});
    Array<double> expected_y({r, o}, 0.0), expected_dx({r, i}, 0.0);
    double nonempty = 0;
    for (int64_t e = 0; e < e_count; ++e) {
      nonempty += test.rows[e] > 0;
      for (int64_t row = offsets[e]; row < offsets[e + 1]; ++row) {
        for (int64_t p = 0; p < o; ++p) {
          for (int64_t q = 0; q < i; ++q) {
            const double weight = w[(e * o + p) * i + q];
            expected_y[row * o + p] += weight * static_cast<double>(x[row * i + q]);
            expected_dx[row * i + q] += weight * static_cast<double>(dy[row * o + p]);
          }
        }
      }
    }
    const double bytes = sizeof(T) * static_cast<double>(r * (o + i) + nonempty * o * i);
    Array<T> y({r, o}), dx({r, i});
    GroupedGemmForward(this->stream, offsets, x, w, y);
    EXPECT_EQ(this->stream.profile.cost(Op::kGroupedGemm).flops, 2.0 * static_cast<double>(r * o * i));
    this->stream.ExpectOneCall(Op::kGroupedGemm, bytes);
    ExpectNear(y, expected_y, 0, Tolerance<T>(i));
    GroupedGemmInputGrad(this->stream, offsets, dy, w, dx);
    this->stream.ExpectOneCall(Op::kGroupedGemm, bytes);
    ExpectNear(dx, expected_dx, 0, Tolerance<T>(o));
  }
}

TYPED_TEST(GroupedGemmTest, WeightGradientOverwritesOnceThenAccumulates) {
  using T = TypeParam;
  for (const Case& test : kCases) {
    const auto offsets = Offsets(test);
    const int64_t e_count = static_cast<int64_t>(test.rows.size()), r = offsets.back(), o = test.outer,
                  i = test.inner;
    Array<T> dw({e_count, o, i});  // NaN: what is not overwritten shows
    Array<double> expected({e_count, o, i}, 0.0);
    std::vector<uint8_t> has_grad(e_count, 0);
    for (int round = 0; round < 2; ++round) {
      const auto x = RandomArray<T>(this->random, {r, i}), dy = RandomArray<T>(this->random, {r, o});
      double nonempty = 0;
      for (int64_t e = 0; e < e_count; ++e) {
        nonempty += test.rows[e] > 0;
        for (int64_t row = offsets[e]; row < offsets[e + 1]; ++row) {
          for (int64_t p = 0; p < o; ++p) {
            for (int64_t q = 0; q < i; ++q) {
              expected[(e * o + p) * i + q] +=
                  static_cast<double>(dy[row * o + p]) * static_cast<double>(x[row * i + q]);
            }
          }
        }
      }
      GroupedGemmWeightGrad(this->stream, offsets, dy, x, dw, has_grad);
      this->stream.ExpectOneCall(Op::kGroupedGemm,
                                 sizeof(T) * (static_cast<double>(r * (o + i)) +
                                              (round + 1) * nonempty * static_cast<double>(o * i)));
      for (int64_t e = 0; e < e_count; ++e) {
        EXPECT_EQ(has_grad[e], test.rows[e] > 0);
        for (int64_t j = e * o * i; j < (e + 1) * o * i; ++j) {
          if (test.rows[e] == 0) {
            ASSERT_TRUE(std::isnan(dw[j])) << "group " << e << " has no rows and was touched";
          } else {
            ASSERT_NEAR(dw[j], expected[j], 2 * Tolerance<T>(test.rows[e])) << "group " << e;
          }
        }
      }
    }
  }
}

// Results larger than the caches are stored past them; they must be the same numbers.
TEST(GroupedGemmLarge, StreamedWeightGradientEqualsTheCachedOne) {
  const int64_t e_count = 9, o = 1024, i = 1024, rows = 3;
  const std::vector<int64_t> offsets{0, 0, 3, 3, 3, 3, 3, 3, 3, 3};
  std::mt19937_64 random(22);
  TestStream stream;
  const auto x = RandomArray<float>(random, {rows, i}), dy = RandomArray<float>(random, {rows, o});
  Array<float> large({e_count, o, i}), small({1, o, i});
  ASSERT_GE(large.tensor().bytes(), 32 << 20);
  std::vector<uint8_t> has_grad(e_count, 0), small_has_grad(1, 0);
  GroupedGemmWeightGrad(stream, offsets, dy, x, large, has_grad);
  const std::vector<int64_t> small_offsets{0, 3};
  GroupedGemmWeightGrad(stream, small_offsets, dy, x, small, small_has_grad);
  for (int64_t j = 0; j < o * i; ++j) ASSERT_EQ(large[o * i + j], small[j]) << j;
}

// The same for rows; the memory is aligned as that of tensors, without which nothing goes past the caches.
TEST(GroupedGemmLarge, StreamedRowsEqualTheCachedOnes) {
  const int64_t o = 4096 + 16, i = 320;
  const std::vector<int64_t> offsets{0, 250, 250, 283, 533};
  const int64_t e_count = 4, rows = offsets.back();
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 23);
  TestStream stream;
  MemoryMeter meter;
  const auto x = RandomArray<float>(random, {rows, i}), w = RandomArray<float>(random, {e_count, o, i});
  Buffer buffer = Buffer::Allocate(meter, MemoryKind::kScratch, rows * o * int64_t{sizeof(float)});
  const Tensor large = buffer.View(DType::kF32, {rows, o});
  ASSERT_GE(large.bytes(), 8 << 20);
  std::fill_n(large.as<float>(), large.size(), Poison<float>());
  GroupedGemmForward(stream, offsets, x, w, large);
  for (int64_t e = 0; e < e_count; ++e) {
    const int64_t count = offsets[e + 1] - offsets[e];
    if (count == 0) continue;
    Array<float> small({count, o});
    GroupedGemmForward(stream, std::vector<int64_t>{0, count}, x.tensor().Rows(offsets[e], count),
                       w.tensor().Rows(e, 1), small);
    for (int64_t j = 0; j < count * o; ++j) ASSERT_EQ(large.as<float>()[offsets[e] * o + j], small[j]) << j;
  }
}

// <y, dy> = <x, dx> = <w, dw>: all three are the same triple sum.
TEST(GroupedGemmAdjoint, ThreeProductsAgree) {
  const std::vector<int64_t> offsets{0, 7, 7, 40};
  const int64_t e_count = 3, r = 40, o = 50, i = 21;
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 23);
  TestStream stream;
  const auto w = RandomArray<double>(random, {e_count, o, i});
  const auto x = RandomArray<double>(random, {r, i}), dy = RandomArray<double>(random, {r, o});
  Array<double> y({r, o}), dx({r, i}), dw({e_count, o, i}, 0.0);
  std::vector<uint8_t> has_grad(e_count, 0);
  GroupedGemmForward(stream, offsets, x, w, y);
  GroupedGemmInputGrad(stream, offsets, dy, w, dx);
  GroupedGemmWeightGrad(stream, offsets, dy, x, dw, has_grad);
  const auto dot = [](const Array<double>& a, const Array<double>& b) {
    double sum = 0;
    for (int64_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
    return sum;
  };
  EXPECT_NEAR(dot(y, dy), dot(x, dx), 1e-10 * std::abs(dot(y, dy)) + 1e-10);
  EXPECT_NEAR(dot(y, dy), dot(w, dw), 1e-10 * std::abs(dot(y, dy)) + 1e-10);
  EXPECT_NE(dot(y, dy), 0);
}

}  // namespace
}  // namespace unipool
