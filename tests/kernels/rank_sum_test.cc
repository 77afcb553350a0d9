#include "kernels/rank_sum.h"

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

// Against the same sum, element by element, with what lies at the own place of `parts` poisoned.
template <class T>
void CheckSum(int64_t n, int size, int rank, int64_t gap) {
  SCOPED_TRACE(testing::Message() << NameOf(DTypeOf<T>::value) << ", " << n << ", rank " << rank << " of "
                                  << size << ", gap " << gap);
  std::mt19937_64 random(n + size);
  TestStream stream;
  Array<T> parts({size, n + gap});
  for (int r = 0; r < size; ++r) {
    for (int64_t i = 0; i < n && r != rank; ++i) {
      parts[r * (n + gap) + i] = static_cast<T>(std::ldexp(Uniform(random, -1, 1), UniformInt(random, 20)));
    }
  }
  Array<T> own({n});
  for (int64_t i = 0; i < n; ++i) own[i] = static_cast<T>(Uniform(random, -100, 100));
  std::vector<T> expected(n);
  for (int64_t i = 0; i < n; ++i) {
    const auto term = [&](int r) { return r == rank ? own[i] : parts[r * (n + gap) + i]; };
    expected[i] = term(0);
    for (int r = 1; r < size; ++r) expected[i] = static_cast<T>(expected[i] + term(r));
  }
  SumInRankOrder(stream, own, parts.tensor().data, static_cast<int64_t>((n + gap) * sizeof(T)), rank, size);
  stream.ExpectOneCall(Op::kReduce, (size + 1.0) * own.tensor().bytes());
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(own[i], expected[i]) << i;
}

template <class T>
void CheckSums() {
  for (const int64_t n : {0, 1, 17, 1024, 2500}) {
    for (const int size : {1, 2, 3, 8}) {
      for (const int rank : {0, size / 2, size - 1}) CheckSum<T>(n, size, rank, n % 3);
    }
  }
}

TEST(RankSum, AddsInRankOrder) {
  CheckSums<float>();
  CheckSums<double>();
  CheckSums<int32_t>();
  CheckSums<int64_t>();
}

TEST(RankSumDeathTest, RankAndStride) {
  TestStream stream;
  const Array<float> own({4}, 0), parts({2, 4}, 0);
  EXPECT_DEATH(SumInRankOrder(stream, own, parts.tensor().data, 16, 2, 2), "rank 2 of 2");
  EXPECT_DEATH(SumInRankOrder(stream, own, parts.tensor().data, 12, 0, 2), "16 bytes lie 12 bytes apart");
}

}  // namespace
}  // namespace unipool
