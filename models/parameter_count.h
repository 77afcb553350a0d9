// How many parameters a model has, by kind, in whole and on one rank. Pure functions of settings and mesh
// shape; a test compares them with the model's own tensors. Letters: README.md; Vp = PaddedVocab.
#pragma once

#include <cstdint>

#include "configs/config.pb.h"
#include "parallel/mesh.h"

namespace unipool {

struct ParameterCount {
  int64_t embedding = 0;  // Vp * D
  int64_t head = 0;       // Vp * D, not tied to the embedding
  int64_t attention = 0;  // per layer (2 H + 2 G) * (D / H) * D
  // Per layer M * D, and 1 (sigma) where the router HasSigma; nothing with DENSE. Every layer has a row for
  // every expert, also for those it does not see. A BIAS is state and is not counted.
  int64_t router = 0;
  int64_t experts = 0;  // per expert 3 * F * D
  int64_t norms = 0;    // 2 D per layer and a last D
  int64_t dense() const { return embedding + head + attention + router + norms; }  // all but experts
  int64_t total() const { return dense() + experts; }
  bool operator==(const ParameterCount&) const = default;
};

// Rows of embedding and head: model.vocab rounded up to a multiple of model.vocab_multiple. 50257 with
// multiple 1024 is 51200. That gives the published totals 777.9M, 2.588B, 3.834B, 5.081B and 5.742B; the
// usual 50304 misses all five.
int64_t PaddedVocab(const ModelConfig& model);

ParameterCount CountParameters(const Config& config);

// Parameters that take part in one token: everything but the experts that were not chosen.
int64_t CountActiveParameters(const Config& config);

// What a rank holds: its stage's layers, the embedding on the first stage, last norm and head on the last
// (a spread head on all), and its block of the pool, which is cut into W contiguous blocks.
// REQUIRES: 0 <= rank < shape.world().
ParameterCount CountParametersOfRank(const Config& config, const MeshShape& shape, int rank);

}  // namespace unipool
