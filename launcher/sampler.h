// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace unipool {

struct SamplerOptions {
  double temperature = 0;  // 0: the largest logit, of equals the lower id
  int64_t top_k = 0;       // only the k most likely tokens; 0: all
  double top_p = 1;        // of those, only the fewest whose probabilities reach p
  uint64_t seed = 1;
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options) {}
  // The id of the chosen token. `step` numbers the choices: equal seeds, steps and logits choose alike.
  int32_t Choose(std::span<const float> logits, int64_t step);

 private:
  SamplerOptions options_;
  std::vector<int32_t> order_;
  std::vector<double> probabilities_;
};

}  // namespace unipool
