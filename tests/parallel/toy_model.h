// A model that is linear over the integers modulo a prime, so that every layout must give exactly the numbers
// of the serial computation here, and a row that meets another's stash shows. Layer l of L, with experts that
// multiply by factor m_e and weights w in 0..4 per choice:
//   u = (l + 2) h,   h' = u + (l + 1) + sum_k w_k m_ek u     (mod p, per column)
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/random.h"

namespace unipool {

struct ToyModel {
  static constexpr int kPrime = 1009, kColumns = 3, kTopK = 2, kMaxTokens = 5;
  uint64_t seed = 0;
  int num_layers = 0;
  int num_experts = 0;

  static float Mod(int64_t x) { return static_cast<float>(x % kPrime); }
  uint64_t Draw(int sample, int layer, int choice) const {
    return RandomBits(seed, (uint64_t(sample) * 64 + layer) * 64 + choice);
  }
  // Samples differ in length, and some choose no expert at all.
  int Tokens(int sample) const { return 1 + Draw(sample, 63, 0) % kMaxTokens; }
  int Expert(int sample, int layer, int choice) const { return Draw(sample, layer, choice) % num_experts; }
  int Weight(int sample, int layer, int choice) const {
    return Draw(sample, 62, 0) % 5 == 0 ? 0 : (Draw(sample, layer, choice) >> 32) % 5;
  }
  static int Factor(int expert) { return 2 * expert + 3; }
  float Input(int sample, int i) const { return Mod(Draw(sample, 61, i) % kPrime); }
  static float OutputGradient(int sample, int i, float output) {
    return Mod(3 * int64_t(output) + sample + i);
  }
};

// What one sample gives when nothing is distributed.
struct ToyResult {
  std::vector<float> output, input_gradient;          // [T, columns]
  std::vector<std::vector<int64_t>> expert_gradient;  // [L][M] sum of dy * x
  std::vector<int64_t> dense_gradient;                // [L] sum over choices of <dh', y>
};

inline ToyResult RunSerially(const ToyModel& model, int sample) {
  constexpr int D = ToyModel::kColumns, K = ToyModel::kTopK;
  const int size = model.Tokens(sample) * D;
  ToyResult result;
  std::vector<float> h(size);
  for (int i = 0; i < size; ++i) h[i] = model.Input(sample, i);
  std::vector<std::vector<float>> u(model.num_layers, std::vector<float>(size));
  for (int layer = 0; layer < model.num_layers; ++layer) {
    for (int i = 0; i < size; ++i) {
      u[layer][i] = ToyModel::Mod((layer + 2) * int64_t(h[i]));
      int64_t sum = int64_t(u[layer][i]) + layer + 1;
      for (int choice = i / D * K; choice < (i / D + 1) * K; ++choice) {
        sum += int64_t(model.Weight(sample, layer, choice)) *
               ToyModel::Factor(model.Expert(sample, layer, choice)) * int64_t(u[layer][i]);
      }
      h[i] = ToyModel::Mod(sum);
    }
  }
  result.output = h;
  for (int i = 0; i < size; ++i) h[i] = ToyModel::OutputGradient(sample, i, h[i]);  // from here on gradients
  result.expert_gradient.assign(model.num_layers, std::vector<int64_t>(model.num_experts));
  result.dense_gradient.assign(model.num_layers, 0);
  for (int layer = model.num_layers - 1; layer >= 0; --layer) {
    for (int i = 0; i < size; ++i) {
      int64_t du = int64_t(h[i]);
      for (int choice = i / D * K; choice < (i / D + 1) * K; ++choice) {
        const int64_t weight = model.Weight(sample, layer, choice);
        if (weight == 0) continue;
        const int expert = model.Expert(sample, layer, choice);
        const int64_t dy = int64_t(ToyModel::Mod(weight * int64_t(h[i])));
        const int64_t y = int64_t(ToyModel::Mod(ToyModel::Factor(expert) * int64_t(u[layer][i])));
        du += ToyModel::Factor(expert) * dy;
        result.expert_gradient[layer][expert] += dy * int64_t(u[layer][i]);
        result.dense_gradient[layer] += int64_t(h[i]) * y;
      }
      h[i] = ToyModel::Mod((layer + 2) * du);
    }
  }
  result.input_gradient = h;
  return result;
}

}  // namespace unipool
