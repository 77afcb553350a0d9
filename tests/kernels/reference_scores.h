// Router scores of one token once more, as plainly as their formulas can be written
// (kernels/router_scores.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/router_scores.h"

namespace unipool {

// s [M] of logits z [M]; visible [M] in [0, 1]; attenuation [M] or empty; scale is sigma * c.
inline std::vector<double> ReferenceScores(RouterKind kind, double scale, std::span<const double> visible,
                                           std::span<const double> z,
                                           std::span<const double> attenuation = {}) {
  const auto factor = [&](size_t i) { return attenuation.empty() ? 1 : attenuation[i]; };
  double squares = 0, exps = 0;
  for (size_t i = 0; i < z.size(); ++i) {
    squares += visible[i] * z[i] * visible[i] * z[i];
    if (visible[i] > 0) exps += factor(i) * std::exp(z[i]);
  }
  std::vector<double> s(z.size(), 0);
  for (size_t i = 0; i < z.size(); ++i) {
    const double v = visible[i];
    if (v == 0) continue;
    switch (kind) {
      case RouterKind::kNorm:
        s[i] = factor(i) * scale * std::max(0.0, v * z[i] / (std::sqrt(squares) + 1e-8));
        break;
      case RouterKind::kSoftmax:
        s[i] = factor(i) * std::exp(z[i]) / exps;
        break;
      case RouterKind::kSigmoid:
        s[i] = factor(i) / (1 + std::exp(-z[i]));
        break;
    }
  }
  return s;
}

}  // namespace unipool
