#include "kernels/reduce.h"

#include <bit>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

constexpr int64_t kSizes[] = {0, 1, 17, 31, 32, 33, 1000, 65536, 3 * 65536 + 17};

template <class T>
void CheckSums(int64_t n) {
  SCOPED_TRACE(n);
  std::mt19937_64 random(n + 1);
  TestStream stream;
  const Array<T> x = RandomArray<T>(random, {n}, -3, 5);
  long double sum = 0, squares = 0, magnitude = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += x[i];
    squares += static_cast<long double>(x[i]) * x[i];
    magnitude += std::abs(x[i]);
  }
  Array<double> added({1}, 3), added_squares({1}, -4);
  AddSum(stream, x, added);
  stream.ExpectOneCall(Op::kReduce, n * sizeof(T));
  EXPECT_NEAR(added[0], 3 + sum, 4e-14 * (3 + magnitude));
  AddSumOfSquares(stream, x, added_squares);
  stream.ExpectOneCall(Op::kReduce, n * sizeof(T));
  EXPECT_NEAR(added_squares[0], -4 + squares, 4e-14 * (4 + squares));
}

TEST(Reduce, SumsMatchExtendedPrecision) {
  for (const int64_t n : kSizes) {
    CheckSums<float>(n);
    CheckSums<double>(n);
  }
}

TEST(Reduce, SumDependsOnValuesAndSizeAlone) {
  std::mt19937_64 random(7);
  TestStream stream;
  constexpr int64_t kSize = 70001;
  const Array<float> x = RandomArray<float>(random, {kSize});
  Array<float> shifted({kSize + 5});
  for (int64_t i = 0; i < kSize; ++i) shifted[i + 3] = x[i];
  const Tensor part = shifted.tensor().Rows(3, kSize);  // another alignment
  Array<double> sums({4}, 0);
  const auto sum_at = [&](int64_t i) { return sums.tensor().Rows(i, 1); };
  AddSum(stream, x, sum_at(0));
  AddSum(stream, part, sum_at(1));
  AddSumOfSquares(stream, x, sum_at(2));
  AddSumOfSquares(stream, part, sum_at(3));
  EXPECT_EQ(sums[0], sums[1]);
  EXPECT_EQ(sums[2], sums[3]);
}

// Ties go to the even neighbour: 1 + 2^-8 down, 1 + 3 * 2^-8 up.
TEST(Reduce, CopiesConvertBetweenF32AndBf16) {
  TestStream stream;
  const float values[] = {1, -2.5, 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 1 + 0x1.02p-8f, 3.3e38f, -0.0f};
  const uint16_t bits[] = {0x3f80, 0xc020, 0x3f80, 0x3f82, 0x3f81, 0x7f78, 0x8000};
  constexpr int64_t kSize = std::size(values);
  Array<float> x({kSize}), back({kSize});
  std::copy(values, values + kSize, x.tensor().as<float>());
  std::vector<uint16_t> rounded(kSize, 0xffff);
  const Tensor bf16(rounded.data(), DType::kBF16, {kSize});
  Copy(stream, x, bf16);
  stream.ExpectOneCall(Op::kReduce, kSize * 6);
  Copy(stream, bf16, back);
  for (int64_t i = 0; i < kSize; ++i) {
    EXPECT_EQ(rounded[i], bits[i]) << i;
    EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), uint32_t{bits[i]} << 16) << i;
  }
}

template <class T>
void CheckFillCopy(int64_t n) {
  SCOPED_TRACE(n);
  std::mt19937_64 random(n + 2);
  TestStream stream;
  const Array<T> x = RandomArray<T>(random, {n});
  Array<T> copy({n});
  Copy(stream, x, copy);
  stream.ExpectOneCall(Op::kReduce, 2 * n * sizeof(T));
  EXPECT_TRUE(copy.BitEquals(x));
  Fill(stream, copy, -2.5);
  stream.ExpectOneCall(Op::kReduce, n * sizeof(T));
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(copy[i], T(-2.5));
}

TEST(Reduce, FillAndCopyTouchEveryElementOnce) {
  for (const int64_t n : kSizes) {
    CheckFillCopy<float>(n);
    CheckFillCopy<double>(n);
  }
}

TEST(Reduce, FillsIntegersToo) {
  TestStream stream;
  Array<int64_t> counts({19});
  Array<int32_t> rows({19});
  Fill(stream, counts, 0);
  Fill(stream, rows, -1);
  for (int64_t i = 0; i < 19; ++i) {
    EXPECT_EQ(counts[i], 0);
    EXPECT_EQ(rows[i], -1);
  }
}

template <class T>
void CheckRaise() {
  TestStream stream;
  Array<T> x({5});
  const T values[] = {-3, 0, T(1e-30), 7, T(1e-20)};
  for (int i = 0; i < 5; ++i) x[i] = values[i];
  RaiseToLeast(stream, x, 1e-25);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(x[i], std::max(values[i], static_cast<T>(1e-25))) << i;
}

TEST(Reduce, RaisesToTheLeast) {
  CheckRaise<float>();
  CheckRaise<double>();
}

TEST(ReduceDeathTest, MismatchPrintsBothShapes) {
  TestStream stream;
  const Array<float> x({3, 4}, 0), y({3, 5}, 0);
  EXPECT_DEATH(Copy(stream, x, y), "\\[3, 5\\].*\\[3, 4\\]");
  const Array<double> z({3, 4}, 0);
  EXPECT_DEATH(Copy(stream, x, z), "F64 \\[3, 4\\].*F32 \\[3, 4\\]");
}

}  // namespace
}  // namespace unipool
