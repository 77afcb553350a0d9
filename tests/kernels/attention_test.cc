#include "kernels/attention.h"

#include <cmath>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

// {sequences, length, heads, kv heads, head size}: one token, below, at and above the tiles; H = G and H = 4
// G; odd sizes.
const AttentionShape kShapes[] = {{1, 1, 1, 1, 16},  {2, 63, 2, 2, 16}, {1, 65, 4, 1, 32}, {1, 200, 2, 1, 64},
                                  {2, 13, 8, 2, 96}, {1, 48, 2, 1, 32}, {1, 50, 3, 1, 5},  {0, 8, 2, 1, 16}};

struct Expected {
  Array<double> out, lse, dqkv;
};

// Everything from the definition, one pair of tokens at a time.
Expected Reference(const AttentionShape& shape, const Array<double>& qkv, const Array<double>& dout) {
  const int64_t s = shape.sequence_length, d = shape.head_size, row = shape.qkv_size(),
                out_row = shape.out_size();
  const int64_t group = shape.num_heads / shape.num_kv_heads;
  Expected result{Array<double>({shape.tokens(), out_row}, 0.0),
                  Array<double>({shape.tokens(), shape.num_heads}),
                  Array<double>({shape.tokens(), row}, 0.0)};
  for (int64_t b = 0; b < shape.num_sequences; ++b) {
    for (int64_t h = 0; h < shape.num_heads; ++h) {
      const int64_t q_at = h * d, k_at = (shape.num_heads + h / group) * d,
                    v_at = k_at + shape.num_kv_heads * d;
      for (int64_t i = b * s; i < (b + 1) * s; ++i) {
        std::vector<double> p(i + 1 - b * s), dp(p.size(), 0);
        double sum = 0;
        for (int64_t j = b * s; j <= i; ++j) {
          double score = 0;
          for (int64_t c = 0; c < d; ++c) score += qkv[i * row + q_at + c] * qkv[j * row + k_at + c];
          sum += p[j - b * s] = std::exp(score / std::sqrt(static_cast<double>(d)));
        }
        result.lse[i * shape.num_heads + h] = std::log(sum);
        double mean = 0;
        for (int64_t j = b * s; j <= i; ++j) {
          double& probability = p[j - b * s];
          probability /= sum;
          for (int64_t c = 0; c < d; ++c) {
            result.out[i * out_row + h * d + c] += probability * qkv[j * row + v_at + c];
            dp[j - b * s] += dout[i * out_row + h * d + c] * qkv[j * row + v_at + c];
            result.dqkv[j * row + v_at + c] += probability * dout[i * out_row + h * d + c];
          }
          mean += probability * dp[j - b * s];
        }
        for (int64_t j = b * s; j <= i; ++j) {
          const double ds = p[j - b * s] * (dp[j - b * s] - mean) / std::sqrt(static_cast<double>(d));
          for (int64_t c = 0; c < d; ++c) {
            result.dqkv[i * row + q_at + c] += ds * qkv[j * row + k_at + c];
            result.dqkv[j * row + k_at + c] += ds * qkv[i * row + q_at + c];
          }
        }
      }
    }
  }
  return result;
}

template <class T>
class AttentionTest : public testing::Test {
 protected:
  std::mt19937_64 random{static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 41};
  TestStream stream;
  // Inputs up to 2 make scores that differ enough for the softmax to matter.
  double bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionTest, Types);

TYPED_TEST(AttentionTest, ForwardAndBackwardEqualTheDefinition) {
  using T = TypeParam;
  for (const AttentionShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.sequence_length << " tokens, head size " << shape.head_size);
    const auto qkv = RandomArray<T>(this->random, {shape.tokens(), shape.qkv_size()}, -2, 2);
    const auto dout = RandomArray<T>(this->random, {shape.tokens(), shape.out_size()});
    const auto expected = Reference(shape, qkv.template As<double>(), dout.template As<double>());
    Array<T> out({shape.tokens(), shape.out_size()}), lse({shape.tokens(), shape.num_heads});
    Array<T> dqkv({shape.tokens(), shape.qkv_size()});
    AttentionForward(this->stream, shape, qkv, out, lse);
    this->stream.ExpectOneCall(Op::kAttention,
                               sizeof(T) * static_cast<double>(qkv.size() + out.size() + lse.size()));
    ExpectNear(out, expected.out, this->bound, this->bound);
    ExpectNear(lse, expected.lse, this->bound, this->bound);
    AttentionBackward(this->stream, shape, qkv, out, lse, dout, dqkv);
    ExpectNear(dqkv, expected.dqkv, this->bound, 4 * this->bound);
    this->stream.profile.Reset();
  }
}

// Scores of +-1000 overflow an exponential that is not shifted.
TYPED_TEST(AttentionTest, LargeScoresStayFinite) {
  using T = TypeParam;
  const AttentionShape shape{1, 20, 2, 1, 16};
  const auto qkv = RandomArray<T>(this->random, {20, shape.qkv_size()}, -30, 30);
  const auto dout = RandomArray<T>(this->random, {20, shape.out_size()});
  Array<T> out({20, shape.out_size()}), lse({20, 2}), dqkv({20, shape.qkv_size()});
  AttentionForward(this->stream, shape, qkv, out, lse);
  AttentionBackward(this->stream, shape, qkv, out, lse, dout, dqkv);
  for (int64_t i = 0; i < out.size(); ++i) ASSERT_LE(std::abs(out[i]), T(30.001));  // a mean of values
  for (int64_t i = 0; i < dqkv.size(); ++i) ASSERT_TRUE(std::isfinite(dqkv[i]));
}

TYPED_TEST(AttentionTest, DecodeGivesTheRowsOfTheForward) {
  using T = TypeParam;
  for (const AttentionShape& shape : {AttentionShape{1, 40, 4, 1, 32}, {1, 17, 3, 3, 16}, {1, 9, 12, 2, 5}}) {
    const int64_t s = shape.sequence_length, kv_size = 2 * shape.num_kv_heads * shape.head_size;
    auto qkv = RandomArray<T>(this->random, {s, shape.qkv_size()}, -2, 2);
    Array<T> out({s, shape.out_size()}), lse({s, shape.num_heads}), decoded({s, shape.out_size()});
    Array<T> cache({s + 5, kv_size});  // NaN where no position was written
    AttentionForward(this->stream, shape, qkv, out, lse);
    for (int64_t t = 0; t < s; ++t) {
      AttentionDecode(this->stream, shape, qkv.tensor().Rows(t, 1), cache, t, decoded.tensor().Rows(t, 1));
      for (int64_t c = 0; c < kv_size; ++c) {
        ASSERT_EQ(cache[t * kv_size + c], qkv[t * shape.qkv_size() + shape.out_size() + c]);
      }
    }
    ExpectNear(decoded, out.template As<double>(), this->bound, this->bound);
    EXPECT_TRUE(std::isnan(cache[s * kv_size]));
  }
}

TEST(AttentionGradient, AgreesWithFiniteDifferences) {
  std::mt19937_64 random(testing::UnitTest::GetInstance()->random_seed() + 42);
  TestStream stream;
  for (const AttentionShape& shape : {AttentionShape{2, 5, 4, 1, 4}, {1, 14, 2, 2, 6}}) {
    auto qkv = RandomArray<double>(random, {shape.tokens(), shape.qkv_size()}, -2, 2);
    const auto dout = RandomArray<double>(random, {shape.tokens(), shape.out_size()});
    Array<double> out({shape.tokens(), shape.out_size()}), lse({shape.tokens(), shape.num_heads});
    Array<double> dqkv({shape.tokens(), shape.qkv_size()});
    AttentionForward(stream, shape, qkv, out, lse);
    AttentionBackward(stream, shape, qkv, out, lse, dout, dqkv);
    ExpectGradient(dqkv, qkv, [&] {
      AttentionForward(stream, shape, qkv, out, lse);
      double sum = 0;
      for (int64_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
      return sum;
    });
  }
}

// Scratch grows once: a second call of the same shape takes no more memory.
TEST(AttentionMemory, ScratchStays) {
  const AttentionShape shape{2, 100, 4, 2, 32};
  std::mt19937_64 random(43);
  TestStream stream;
  const auto qkv = RandomArray<float>(random, {200, shape.qkv_size()});
  Array<float> out({200, shape.out_size()}), lse({200, 4});
  AttentionForward(stream, shape, qkv, out, lse);
  const int64_t bytes = stream.meter.current_bytes(MemoryKind::kScratch);
  EXPECT_GT(bytes, 0);
  EXPECT_LT(bytes, 100 * 1024);  // no [s, s] matrix per head
  AttentionForward(stream, shape, qkv, out, lse);
  EXPECT_EQ(stream.meter.current_bytes(MemoryKind::kScratch), bytes);
}

}  // namespace
}  // namespace unipool
