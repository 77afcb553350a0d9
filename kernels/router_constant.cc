#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "kernels/cpu/fast_exp.h"
#include "kernels/cpu/vector_reduce.h"
#include "kernels/router_scores.h"
#include "runtime/random.h"

namespace unipool {
namespace {

constexpr int kMostSamples = 100000;
constexpr int kBlock = 32;  // samples drawn at a time
static_assert(kMostSamples % kBlock == 0);
// Experts up to which all samples are drawn. With more, samples get fewer so that the time stays the same.
// They also scatter less: with 131,072 experts 768 samples are within 0.3 %.
constexpr int kMostForAllSamples = 1024;
// Below this many experts the mean of 1 / |top-k| is infinite: a row may have no positive logit.
constexpr int kSmallestForMean = 32;

// ln(x) of a positive normal float to about 1e-7, in a form that loops vectorise: x = 2^n m with m in
// [sqrt(1/2), sqrt(2)), ln(m) = 2 artanh((m - 1) / (m + 1)).
float FastLog(float x) {
  constexpr uint32_t kSqrtHalf = 0x3f3504f3;
  const uint32_t shifted = std::bit_cast<uint32_t>(x) - kSqrtHalf;
  const float n = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  const float m = std::bit_cast<float>((shifted & 0x007fffff) + kSqrtHalf);
  const float t = (m - 1) / (m + 1), t2 = t * t;
  const float series =
      MulAdd(MulAdd(MulAdd(MulAdd(t2, 1.0f / 9, 1.0f / 7), t2, 1.0f / 5), t2, 1.0f / 3), t2, 1.0f);
  return MulAdd(n, 0.693147181f, 2 * t * series);
}

float ToSymmetric(int32_t bits) {
  return (static_cast<float>(bits) + 0.5f) * 0x1p-31f;  // [-1, 1], never 0
}

// Standard normal numbers by Marsaglia's polar method, in pairs: exact, without sine and cosine. Both halves
// of one draw are a candidate; those outside the circle are overwritten by the next. REQUIRES: an even number
// of values.
class NormalSource {
 public:
  explicit NormalSource(uint64_t key) : key_(key) {}
  void Fill(std::vector<float>& values) {
    const int64_t pairs = values.size() / 2;
    squares_.resize(pairs);
    float *a = values.data(), *b = a + pairs, *square = squares_.data();
    for (int64_t i = 0; i < pairs;) {
      const uint64_t bits = RandomBits(key_, counter_++);
      a[i] = ToSymmetric(static_cast<int32_t>(bits >> 32));
      b[i] = ToSymmetric(static_cast<int32_t>(bits));
      square[i] = a[i] * a[i] + b[i] * b[i];
      i += square[i] < 1;
    }
#pragma GCC ivdep
    for (int64_t i = 0; i < pairs; ++i) {
      const float factor = std::sqrt(-2 * FastLog(square[i]) / square[i]);
      a[i] *= factor;
      b[i] *= factor;
    }
  }

 private:
  uint64_t key_, counter_ = 0;
  std::vector<float> squares_;
};

// |top-k of relu(x / |x|)|_2 of one sample x[num_experts], whose order is lost.
double TopNorm(float* x, int num_experts, int top_k) {
  const double square_sum = VectorSum<float>(num_experts, [=](auto at) { return at(x) * at(x); });
  if (top_k == 1) {
    const double best = VectorMax<float>(num_experts, [=](auto at) { return at(x); });
    return std::max(best, 0.0) / std::sqrt(square_sum);
  }
  if (top_k < num_experts) std::nth_element(x, x + top_k, x + num_experts, std::greater<>());
  double best_sum = 0;
  for (int k = 0; k < top_k; ++k) best_sum += x[k] > 0 ? x[k] * x[k] : 0.0f;
  return std::sqrt(best_sum / square_sum);
}

int NumSamples(int num_experts) {
  if (num_experts <= kMostForAllSamples) return kMostSamples;
  const int64_t fewer = int64_t{kMostSamples} * kMostForAllSamples / num_experts;
  return static_cast<int>(std::max<int64_t>(fewer / kBlock, 1) * kBlock);
}

}  // namespace

double RouterConstant(int num_experts, int top_k) {
  CHECK(num_experts >= 1 && top_k >= 1 && top_k <= num_experts) << "top " << top_k << " of " << num_experts;
  if (num_experts == 1) return 1;
  NormalSource source(HashBytes("router constant"));
  std::vector<float> samples(int64_t{kBlock} * num_experts);
  std::vector<double> norms;
  const size_t num_samples = NumSamples(num_experts);
  norms.reserve(num_samples);
  while (norms.size() < num_samples) {
    source.Fill(samples);
    for (int row = 0; row < kBlock; ++row) {
      norms.push_back(TopNorm(samples.data() + int64_t{row} * num_experts, num_experts, top_k));
    }
  }
  if (num_experts < kSmallestForMean) {
    std::nth_element(norms.begin(), norms.begin() + static_cast<int64_t>(num_samples / 2), norms.end());
    return 1 / norms[num_samples / 2];
  }
  double sum = 0;
  for (const double norm : norms) sum += 1 / norm;
  return sum / static_cast<double>(num_samples);
}

}  // namespace unipool
