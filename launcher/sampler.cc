#include "launcher/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/random.h"

namespace unipool {

int32_t Sampler::Choose(std::span<const float> logits, int64_t step) {
  if (options_.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  size_t kept = order_.size();
  if (options_.top_k > 0) kept = std::min(kept, static_cast<size_t>(options_.top_k));

  // Falling probabilities of the kept tokens; top-p cuts after the token that reaches p.
  probabilities_.resize(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    probabilities_[i] = std::exp((logits[order_[i]] - logits[order_[0]]) / options_.temperature);
    total += probabilities_[i];
  }
  size_t last = 0;
  double sum = probabilities_[0];
  while (last + 1 < kept && sum < options_.top_p * total) {
    ++last;
    sum += probabilities_[last];
  }
  const double kept_total = std::accumulate(probabilities_.begin(), probabilities_.begin() + last + 1, 0.0);
  double rest = RandomUniform(options_.seed, step) * kept_total;
  for (size_t i = 0; i < last; ++i) {
    rest -= probabilities_[i];
    if (rest < 0) return order_[i];
  }
  return order_[last];
}

}  // namespace unipool
