#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/router_scores.h"
#include "runtime/random.h"

namespace unipool {
namespace {

constexpr int kNumSamples = 100000;
// Below this the mean of 1 / |top-k| is infinite in theory and noisy in practice: a row may have no positive
// logit.
constexpr int kSmallestForMean = 32;

// Standard normal numbers by Marsaglia's polar method: exact, and a fraction of Box-Muller's time because it
// needs neither sine nor cosine. Both 32-bit halves of one draw are a candidate pair.
class NormalSequence {
 public:
  explicit NormalSequence(uint64_t key) : key_(key) {}
  double Next() {
    has_spare_ = !has_spare_;
    if (!has_spare_) return spare_;
    double a, b, square;
    do {
      const uint64_t bits = RandomBits(key_, counter_++);
      a = ToSymmetric(static_cast<int32_t>(bits >> 32));
      b = ToSymmetric(static_cast<int32_t>(bits));
      square = a * a + b * b;
    } while (square >= 1);
    const double factor = std::sqrt(-2 * std::log(square) / square);
    spare_ = b * factor;
    return a * factor;
  }

 private:
  static double ToSymmetric(int32_t bits) { return (bits + 0.5) * 0x1p-31; }  // (-1, 1), never 0
  uint64_t key_, counter_ = 0;
  double spare_ = 0;
  bool has_spare_ = false;
};

// |top-k of relu(x / |x|)|_2 of one sample x. `best` holds k elements and is kept sorted, smallest first.
double TopNorm(NormalSequence& normals, int num_experts, std::vector<double>& best) {
  std::fill(best.begin(), best.end(), 0.0);
  double square_sum = 0;
  for (int i = 0; i < num_experts; ++i) {
    const double x = normals.Next();
    square_sum += x * x;
    if (x <= best[0]) continue;
    size_t at = 0;
    for (; at + 1 < best.size() && best[at + 1] < x; ++at) best[at] = best[at + 1];
    best[at] = x;
  }
  double best_sum = 0;
  for (double x : best) best_sum += x * x;
  return std::sqrt(best_sum / square_sum);
}

}  // namespace

double RouterConstant(int num_experts, int top_k) {
  CHECK(num_experts >= 1 && top_k >= 1 && top_k <= num_experts) << "top " << top_k << " of " << num_experts;
  if (num_experts == 1) return 1;
  NormalSequence normals(HashBytes("router constant"));
  std::vector<double> best(top_k);
  if (num_experts < kSmallestForMean) {
    std::vector<double> norms(kNumSamples);
    for (double& norm : norms) norm = TopNorm(normals, num_experts, best);
    std::nth_element(norms.begin(), norms.begin() + kNumSamples / 2, norms.end());
    return 1 / norms[kNumSamples / 2];
  }
  double sum = 0;
  for (int i = 0; i < kNumSamples; ++i) sum += 1 / TopNorm(normals, num_experts, best);
  return sum / kNumSamples;
}

}  // namespace unipool
