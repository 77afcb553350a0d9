#include "kernels/embedding.h"

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

Array<int32_t> RandomTokens(std::mt19937_64& random, int64_t count, int64_t vocabulary) {
  Array<int32_t> tokens({count});
  for (int64_t t = 0; t < count; ++t) tokens[t] = static_cast<int32_t>(UniformInt(random, vocabulary));
  return tokens;
}

// Values that tell row and column, exact in every type.
template <class T>
Array<T> Labelled(int64_t rows, int64_t width) {
  Array<T> array({rows, width});
  for (int64_t i = 0; i < array.size(); ++i) array[i] = static_cast<T>(i / width * 2048 + i % width);
  return array;
}

template <class T>
void CheckForward(int64_t num_tokens, int64_t vocabulary, int64_t width) {
  std::mt19937_64 random(num_tokens + width);
  TestStream stream;
  const Array<int32_t> tokens = RandomTokens(random, num_tokens, vocabulary);
  const Array<T> table = Labelled<T>(vocabulary, width);
  Array<T> out({num_tokens, width});
  EmbeddingForward(stream, tokens, table, out);
  stream.ExpectOneCall(Op::kEmbedding, num_tokens * (4 + 2 * width * sizeof(T)));
  for (int64_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], tokens[i / width] * 2048 + i % width);
}

TEST(Embedding, ForwardPicksRows) {
  for (const int64_t num_tokens : {0, 1, 50}) {
    for (const int64_t width : {1, 17, 1000}) {
      CheckForward<float>(num_tokens, 31, width);
      CheckForward<double>(num_tokens, 31, width);
    }
  }
}

template <class T>
void CheckBackward(int64_t num_tokens, int64_t vocabulary, int64_t width) {
  std::mt19937_64 random(num_tokens + width);
  TestStream stream;
  const Array<int32_t> tokens = RandomTokens(random, num_tokens, vocabulary);
  const Array<T> dout = RandomArray<T>(random, {num_tokens, width}),
                 before = RandomArray<T>(random, {vocabulary, width});
  Array<T> dtable = before, expected = before;
  EmbeddingBackward(stream, tokens, dout, dtable);
  EXPECT_EQ(stream.profile.cost(Op::kEmbedding).calls, 1);
  for (int64_t i = 0; i < dout.size(); ++i) expected[tokens[i / width] * width + i % width] += dout[i];
  EXPECT_TRUE(dtable.BitEquals(expected));  // the order of t is part of the contract
}

TEST(Embedding, BackwardAddsInTokenOrder) {
  for (const int64_t num_tokens : {0, 1, 300}) {
    for (const int64_t width : {1, 17, 1000}) {
      CheckBackward<float>(num_tokens, 7, width);
      CheckBackward<double>(num_tokens, 7, width);
    }
  }
}

TEST(Embedding, BackwardMatchesFiniteDifferences) {
  std::mt19937_64 random(1);
  TestStream stream;
  const Array<int32_t> tokens = RandomTokens(random, 9, 5);
  const Array<double> dout = RandomArray<double>(random, {9, 3});
  Array<double> table = RandomArray<double>(random, {5, 3}), dtable({5, 3}, 0), out({9, 3});
  EmbeddingBackward(stream, tokens, dout, dtable);
  ExpectGradient(dtable, table, [&] {
    EmbeddingForward(stream, tokens, table, out);
    double sum = 0;
    for (int64_t i = 0; i < out.size(); ++i) sum += dout[i] * out[i];
    return sum;
  });
}

TEST(EmbeddingDeathTest, TokenOutOfRangeAndWrongShape) {
  TestStream stream;
  Array<int32_t> tokens({2}, 1);
  const Array<float> table({3, 4}, 0), out({2, 4}, 0), narrow({2, 3}, 0);
  EXPECT_DEATH(EmbeddingForward(stream, tokens, table, narrow), "\\[2, 3\\].*\\[2, 4\\]");
  tokens[1] = 3;
  EXPECT_DEATH(EmbeddingForward(stream, tokens, table, out), "token 3 at 1 of a vocabulary of 3");
  EXPECT_DEATH(EmbeddingBackward(stream, tokens, out, table), "token 3 at 1 of a vocabulary of 3");
}

}  // namespace
}  // namespace unipool
