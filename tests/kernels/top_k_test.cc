#include "kernels/top_k.h"

#include <numeric>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

constexpr int64_t kSizes[] = {1, 17, 31, 32, 64, 96, 1000};

template <class T>
struct Result {
  Result(int64_t num_tokens, int64_t num_experts, int64_t top_k)
      : experts({num_tokens, top_k}), weights({num_tokens, top_k}), counts({num_experts}, 5) {}
  Array<int32_t> experts;
  Array<T> weights;
  Array<int64_t> counts;
};

// Sorts all visible experts of every token; counts start from 5.
template <class T>
int64_t Reference(const Array<T>& scores, const Array<T>& bias, BiasReach reach, const Array<T>& visible,
                  Result<T>& result) {
  const int64_t num_experts = visible.size(), top_k = result.experts.tensor().dim(1);
  int64_t num_off = 0;
  for (int64_t t = 0; t < scores.tensor().rows(); ++t) {
    std::vector<int32_t> order;
    for (int64_t i = 0; i < num_experts; ++i) {
      if (visible[i] > 0) order.push_back(static_cast<int32_t>(i));
    }
    const auto is_moved = [&](int32_t i) {
      return reach == BiasReach::kEveryScore || scores[t * num_experts + i] > 0;
    };
    const auto key = [&](int32_t i) { return is_moved(i) ? scores[t * num_experts + i] + bias[i] : T(0); };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return is_moved(a) == is_moved(b) ? key(a) > key(b) : is_moved(a);
    });
    bool positive = false;
    for (int64_t k = 0; k < top_k; ++k) {
      result.experts[t * top_k + k] = order[k];
      result.weights[t * top_k + k] = scores[t * num_experts + order[k]];
      positive |= result.weights[t * top_k + k] > 0;
      ++result.counts[order[k]];
    }
    num_off += !positive;
  }
  return num_off;
}

// `levels` distinct scores: few make ties everywhere, also among zeros.
template <class T>
void Check(int64_t num_tokens, int64_t num_experts, int64_t top_k, int levels, bool with_bias,
           BiasReach reach = BiasReach::kEveryScore, bool sees_few = false) {
  SCOPED_TRACE(testing::Message() << num_tokens << " x " << num_experts << " top " << top_k << ", levels "
                                  << levels << (with_bias ? ", bias" : ""));
  std::mt19937_64 random(num_experts + top_k);
  TestStream stream;
  Array<T> scores({num_tokens, num_experts}), bias({num_experts}, 0), visible({num_experts}, 1);
  for (int64_t i = 0; i < scores.size(); ++i) {
    scores[i] = static_cast<T>(std::max<int64_t>(0, UniformInt(random, levels) - levels / 2)) / 8;
  }
  for (int64_t i = 0; with_bias && i < num_experts; ++i)
    bias[i] = static_cast<T>(UniformInt(random, 9) - 4) / 16;
  for (int64_t i = 0; num_experts > 2 * top_k && i < num_experts; i += 3) visible[i] = 0;
  for (int64_t i = 0; sees_few && i < num_experts; ++i) visible[i] = i % 3 == 1 ? T(1) : T(0);
  for (int64_t i = 1; i < num_experts; i += 4) visible[i] *= T(0.25);  // partly visible is visible
  Result<T> result(num_tokens, num_experts, top_k), expected(num_tokens, num_experts, top_k);
  const int64_t num_off = TopK(stream, scores, {with_bias ? bias.tensor() : Tensor(), reach}, visible,
                               result.experts, result.weights, result.counts);
  stream.ExpectOneCall(Op::kRouter,
                       (scores.size() + (with_bias ? 2 : 1) * num_experts + num_tokens * top_k) * sizeof(T) +
                           num_tokens * top_k * 4 + num_experts * 16);
  EXPECT_EQ(num_off, Reference(scores, bias, reach, visible, expected));
  EXPECT_TRUE(result.experts.BitEquals(expected.experts));
  EXPECT_TRUE(result.weights.BitEquals(expected.weights));
  EXPECT_TRUE(result.counts.BitEquals(expected.counts));
}

// Less than half of the experts: the search is over their columns alone.
TEST(TopK, OfFewVisibleExpertsMatchesAStableSort) {
  for (const int64_t num_experts : {17, 31, 96, 1000}) {
    for (const int64_t top_k : {1, 4}) {
      for (const int levels : {2, 1000000}) {
        for (const bool with_bias : {false, true}) {
          for (const BiasReach reach : {BiasReach::kEveryScore, BiasReach::kPositiveScores}) {
            Check<float>(21, num_experts, top_k, levels, with_bias, reach, true);
            Check<double>(21, num_experts, top_k, levels, with_bias, reach, true);
          }
        }
      }
    }
  }
}

TEST(TopK, MatchesAStableSort) {
  for (const int64_t num_experts : kSizes) {
    for (const int64_t top_k : {1, 2, 4, 8}) {
      if (top_k > num_experts) continue;
      for (const int levels : {2, 8, 1000000}) {
        for (const bool with_bias : {false, true}) {
          Check<float>(21, num_experts, top_k, levels, with_bias);
          Check<double>(21, num_experts, top_k, levels, with_bias);
          Check<float>(21, num_experts, top_k, levels, with_bias, BiasReach::kPositiveScores);
          Check<double>(21, num_experts, top_k, levels, with_bias, BiasReach::kPositiveScores);
        }
      }
      Check<float>(0, num_experts, top_k, 8, false);
    }
  }
}

// A bias above every score switches the token off, unless it reaches positive scores alone.
TEST(TopK, ABiasOfPositiveScoresSwitchesNoTokenOff) {
  TestStream stream;
  Array<float> scores({1, 4}, 0), bias({4}, 0);
  const Array<float> visible({4}, 1);
  scores[1] = 0.5f;
  scores[3] = 0.25f;
  bias[0] = 9;
  bias[3] = 1;
  Result<float> every(1, 4, 1), positive(1, 4, 3);
  EXPECT_EQ(TopK(stream, scores, {bias}, visible, every.experts, every.weights, every.counts), 1);
  EXPECT_EQ(every.experts[0], 0);
  EXPECT_EQ(TopK(stream, scores, {bias, BiasReach::kPositiveScores}, visible, positive.experts,
                 positive.weights, positive.counts),
            0);
  const int32_t expected[] = {3, 1, 0};
  for (int k = 0; k < 3; ++k) EXPECT_EQ(positive.experts[k], expected[k]) << k;
}

TEST(TopK, AllZeroGoesToTheLowestVisible) {
  TestStream stream;
  const Array<float> scores({3, 40}, 0);
  Array<float> visible({40}, 1);
  visible[0] = visible[2] = 0;
  Result<float> result(3, 40, 2);
  EXPECT_EQ(TopK(stream, scores, {}, visible, result.experts, result.weights, result.counts), 3);
  for (int64_t t = 0; t < 3; ++t) {
    EXPECT_EQ(result.experts[2 * t], 1);
    EXPECT_EQ(result.experts[2 * t + 1], 3);
  }
  EXPECT_EQ(result.counts[1], 8);
  EXPECT_EQ(result.counts[3], 8);
}

// Experts whose keys are no numbers come after all others, the lowest first, and their weights tell of it.
template <class T>
void CheckKeysThatAreNone(T none) {
  TestStream stream;
  constexpr int64_t kTopK = 3, kExperts = 20;
  Array<T> scores({4, kExperts}, none), bias({kExperts}, T(0.25)), visible({kExperts}, 1);
  visible[0] = visible[2] = 0;
  scores[kExperts + 0] = 9;                                                      // token 1: not visible
  scores[kExperts + 17] = T(0.5);                                                // and one number
  scores[2 * kExperts + 3] = scores[2 * kExperts + 19] = 1;                      // token 2: two numbers
  for (int64_t i = 5; i < 9; ++i) scores[3 * kExperts + i] = static_cast<T>(i);  // token 3: enough of them
  Result<T> result(4, kExperts, kTopK);
  EXPECT_EQ(TopK(stream, scores, {bias}, visible, result.experts, result.weights, result.counts), 1);
  const int32_t expected[] = {1, 3, 4, 17, 1, 3, 3, 19, 1, 8, 7, 6};
  for (int i = 0; i < 12; ++i) EXPECT_EQ(result.experts[i], expected[i]) << i;
  for (const int i : {0, 1, 2, 4, 5, 8}) EXPECT_FALSE(std::isfinite(result.weights[i])) << i;
  for (const int i : {3, 6, 7, 9, 10, 11}) EXPECT_TRUE(std::isfinite(result.weights[i])) << i;
  EXPECT_EQ(result.counts[1], 5 + 3);
  EXPECT_EQ(result.counts[3], 5 + 3);
  EXPECT_EQ(result.counts[0], 5) << "an expert that is not visible";
}

TEST(TopK, WithoutEnoughNumbersTheLowestVisibleFollow) {
  CheckKeysThatAreNone(std::numeric_limits<float>::quiet_NaN());
  CheckKeysThatAreNone(std::numeric_limits<double>::quiet_NaN());
  CheckKeysThatAreNone(-std::numeric_limits<float>::infinity());
}

TEST(TopKDeathTest, TooFewVisible) {
  TestStream stream;
  const Array<float> scores({1, 4});
  Array<float> one({4}, 0);
  one[2] = 1;
  Result<float> result(1, 4, 2);
  EXPECT_DEATH(TopK(stream, scores, {}, one, result.experts, result.weights, result.counts), "2 vs. 1");
}

}  // namespace
}  // namespace unipool
