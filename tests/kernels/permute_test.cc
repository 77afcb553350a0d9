#include "kernels/permute.h"

#include <numeric>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

struct Shape {
  int64_t num_tokens, top_k, width;
};
constexpr Shape kShapes[] = {{0, 1, 8},   {1, 1, 1},   {1, 4, 17},   {5, 2, 31},
                             {40, 1, 64}, {33, 2, 17}, {20, 4, 100}, {3, 2, 1000}};

// A random routing: every third choice or so is not sent; the rows of the others are shuffled.
struct Routing {
  Routing(std::mt19937_64& random, const Shape& shape) : row_of({shape.num_tokens, shape.top_k}, -1) {
    std::vector<int64_t> sent;
    for (int64_t i = 0; i < row_of.size(); ++i) {
      if (UniformInt(random, 3) != 0) sent.push_back(i);
    }
    std::shuffle(sent.begin(), sent.end(), random);
    for (size_t row = 0; row < sent.size(); ++row) row_of[sent[row]] = static_cast<int32_t>(row);
    num_rows = static_cast<int64_t>(sent.size());
  }
  // token_of[row], the index with which Permute fills the rows.
  Array<int32_t> TokenOf(int64_t top_k) const {
    Array<int32_t> token_of({num_rows});
    for (int64_t i = 0; i < row_of.size(); ++i) {
      if (row_of[i] >= 0) token_of[row_of[i]] = static_cast<int32_t>(i / top_k);
    }
    return token_of;
  }
  Array<int32_t> row_of;
  int64_t num_rows = 0;
};

// Small integers that tell row and column: sums and products of them are exact in every order.
template <class T>
Array<T> Labelled(int64_t rows, int64_t width, int64_t first) {
  Array<T> array({rows, width});
  for (int64_t i = 0; i < array.size(); ++i)
    array[i] = static_cast<T>((first + i / width * 7 + i % width * 3) % 61);
  return array;
}

template <class T>
double Dot(const Array<T>& a, const Array<T>& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

template <class T>
void CheckInverse(int64_t n, int64_t width) {
  SCOPED_TRACE(testing::Message() << n << " x " << width);
  std::mt19937_64 random(n + width);
  TestStream stream;
  Array<int32_t> index({n});
  for (int64_t i = 0; i < n; ++i) index[i] = static_cast<int32_t>(i);
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  for (int64_t i = 0; i < n; ++i) index[i] = order[i];
  Array<T> x({n, width}), permuted({n, width}), back({n, width}, 7);
  for (int64_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<T>(i / width * 1024 + i % width);  // row and column
  Permute(stream, x, index, permuted);
  stream.ExpectOneCall(Op::kPermute, n * (2 * width * sizeof(T) + 4));
  for (int64_t i = 0; i < x.size(); ++i) ASSERT_EQ(permuted[i], index[i / width] * 1024 + i % width);
  const Tensor row_of(order.data(), DType::kI32, {n, 1});
  for (int64_t i = 0; i < n; ++i) order[index[i]] = static_cast<int32_t>(i);
  PermuteBackward(stream, permuted, row_of, back);
  EXPECT_TRUE(back.BitEquals(x));
}

TEST(Permute, SumInvertsGather) {
  for (const int64_t n : {0, 1, 17, 200}) {
    for (const int64_t width : {1, 17, 1000}) {
      CheckInverse<float>(n, width);
      CheckInverse<double>(n, width);
    }
  }
}

// <gather x, y> = <x, sum_rows y>, bit for bit.
template <class T>
void CheckAdjoint(const Shape& shape) {
  SCOPED_TRACE(testing::Message() << shape.num_tokens << " x " << shape.top_k << " x " << shape.width);
  std::mt19937_64 random(shape.num_tokens + shape.width);
  TestStream stream;
  const Routing routing(random, shape);
  const Array<int32_t> token_of = routing.TokenOf(shape.top_k);
  const Array<T> x = Labelled<T>(shape.num_tokens, shape.width, 1),
                 y = Labelled<T>(routing.num_rows, shape.width, 5);
  Array<T> gathered({routing.num_rows, shape.width}), summed({shape.num_tokens, shape.width}, 7);
  Permute(stream, x, token_of, gathered);
  stream.profile.Reset();
  PermuteBackward(stream, y, routing.row_of, summed);
  stream.ExpectOneCall(Op::kPermute,
                       y.tensor().bytes() + summed.tensor().bytes() + routing.row_of.tensor().bytes());
  EXPECT_EQ(Dot(gathered, y), Dot(x, summed));
}

TEST(Permute, BackwardIsTheAdjoint) {
  for (const Shape& shape : kShapes) {
    CheckAdjoint<float>(shape);
    CheckAdjoint<double>(shape);
  }
}

template <class T>
constexpr double kBound = 1e-14;
template <>
constexpr double kBound<float> = 1e-6;

template <class T>
void CheckCombine(const Shape& shape) {
  SCOPED_TRACE(testing::Message() << shape.num_tokens << " x " << shape.top_k << " x " << shape.width);
  std::mt19937_64 random(shape.num_tokens + shape.width);
  TestStream stream;
  const Routing routing(random, shape);
  const Array<T> rows = RandomArray<T>(random, {routing.num_rows, shape.width});
  const Array<T> weights = RandomArray<T>(random, {shape.num_tokens, shape.top_k});
  const Array<T> residual = RandomArray<T>(random, {shape.num_tokens, shape.width});
  Array<T> out({shape.num_tokens, shape.width});
  Unpermute(stream, rows, routing.row_of, weights, residual, out);
  stream.ExpectOneCall(Op::kPermute, rows.tensor().bytes() + 2 * out.tensor().bytes() +
                                         weights.tensor().bytes() + routing.row_of.tensor().bytes());
  Array<double> expected = residual.template As<double>();
  for (int64_t i = 0; i < routing.row_of.size(); ++i) {
    if (routing.row_of[i] < 0) continue;
    for (int64_t j = 0; j < shape.width; ++j) {
      expected[i / shape.top_k * shape.width + j] +=
          static_cast<double>(weights[i]) * rows[routing.row_of[i] * shape.width + j];
    }
  }
  ExpectNear(out, expected, kBound<T>, kBound<T>);
}

TEST(Permute, CombineMatchesPlainComputation) {
  for (const Shape& shape : kShapes) {
    CheckCombine<float>(shape);
    CheckCombine<double>(shape);
  }
}

TEST(Permute, CombineBackwardMatchesFiniteDifferences) {
  for (const Shape& shape : {Shape{4, 1, 17}, Shape{5, 2, 31}, Shape{3, 4, 8}}) {
    std::mt19937_64 random(shape.width);
    TestStream stream;
    const Routing routing(random, shape);
    Array<double> rows = RandomArray<double>(random, {routing.num_rows, shape.width});
    Array<double> weights = RandomArray<double>(random, {shape.num_tokens, shape.top_k});
    const Array<double> residual = RandomArray<double>(random, {shape.num_tokens, shape.width});
    const Array<double> dout = RandomArray<double>(random, {shape.num_tokens, shape.width});
    Array<double> drows({routing.num_rows, shape.width}), dweights({shape.num_tokens, shape.top_k});
    Array<double> out({shape.num_tokens, shape.width});
    UnpermuteBackward(stream, dout, rows, routing.row_of, weights, drows, dweights);
    stream.ExpectOneCall(Op::kPermute, 2 * rows.tensor().bytes() + dout.tensor().bytes() +
                                           2 * weights.tensor().bytes() + routing.row_of.tensor().bytes());
    const auto loss = [&] {
      Unpermute(stream, rows, routing.row_of, weights, residual, out);
      return Dot(out, dout);
    };
    ExpectGradient(drows, rows, loss);
    ExpectGradient(dweights, weights, loss);
  }
}

template <class T>
void CheckBackwardIsExact(const Shape& shape) {
  std::mt19937_64 random(shape.num_tokens + shape.width);
  TestStream stream;
  const Routing routing(random, shape);
  const Array<T> rows = Labelled<T>(routing.num_rows, shape.width, 2);
  const Array<T> weights = Labelled<T>(shape.num_tokens, shape.top_k, 3);
  const Array<T> dout = Labelled<T>(shape.num_tokens, shape.width, 4);
  Array<T> drows({routing.num_rows, shape.width}), dweights({shape.num_tokens, shape.top_k});
  UnpermuteBackward(stream, dout, rows, routing.row_of, weights, drows, dweights);
  for (int64_t i = 0; i < routing.row_of.size(); ++i) {
    double dot = 0;
    for (int64_t j = 0; routing.row_of[i] >= 0 && j < shape.width; ++j) {
      const int64_t at = routing.row_of[i] * shape.width + j;
      const double d = dout[i / shape.top_k * shape.width + j];
      ASSERT_EQ(drows[at], weights[i] * d);
      dot += rows[at] * d;
    }
    ASSERT_EQ(dweights[i], dot);  // 0 where not sent
  }
}

TEST(Permute, CombineBackwardIsExactOnSmallIntegers) {
  for (const Shape& shape : kShapes) {
    CheckBackwardIsExact<float>(shape);
    CheckBackwardIsExact<double>(shape);
  }
}

TEST(PermuteDeathTest, RowOutOfRangeAndWrongShape) {
  TestStream stream;
  const Array<float> rows({2, 4}, 0), out({2, 4}, 0), narrow({2, 3}, 0), weights({2, 1}, 0);
  const Array<int32_t> row_of({2, 1}, 2), index({2}, 2);
  EXPECT_DEATH(Permute(stream, rows, index, out), "row 2 of 2");
  EXPECT_DEATH(PermuteBackward(stream, rows, row_of, out), "row 2 of 2");
  EXPECT_DEATH(Unpermute(stream, rows, row_of, weights, narrow, out), "\\[2, 3\\].*\\[2, 4\\]");
}

}  // namespace
}  // namespace unipool
