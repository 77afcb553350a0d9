#include "models/decision_margin.h"

#include <algorithm>
#include <limits>

#include "kernels/gemm.h"
#include "kernels/rms_norm.h"

namespace unipool {

DecisionMargin::DecisionMargin(const ModelSpec& spec, OutputWeights weights, DeviceContext* device)
    : spec_(spec),
      weights_(std::move(weights)),
      reader_(device),
      stream_(memory_),
      margins_(spec.layers),
      ahead_(spec.layers),
      tokens_(spec.layers) {}

void DecisionMargin::Left(int layer, const Tensor& hidden, const Tensor& targets, int64_t tokens) {
  if (tokens == 0) return;
  constexpr int64_t kChunk = 64;  // tokens whose logits are held at once
  const int64_t d = spec_.hidden, v = spec_.padded_vocab;
  const std::vector<double> exact = reader_.Read(hidden, tokens), next = reader_.Read(targets, tokens);
  std::vector<float> x(exact.begin(), exact.end()), normed(kChunk * d), inv_rms(kChunk), logits(kChunk * v);
  const Tensor norm(weights_.norm.data(), DType::kF32, {d}), head(weights_.head.data(), DType::kF32, {v, d});
  for (int64_t first = 0; first < tokens; first += kChunk) {
    const int64_t rows = std::min(kChunk, tokens - first);
    const Tensor normed_rows(normed.data(), DType::kF32, {rows, d});
    const Tensor logit_rows(logits.data(), DType::kF32, {rows, v});
    RmsNormForward(stream_, Tensor(x.data() + first * d, DType::kF32, {rows, d}), norm, spec_.norm_eps,
                   normed_rows, Tensor(inv_rms.data(), DType::kF32, {rows}));
    Gemm(stream_, Trans::kNo, normed_rows, Trans::kYes, head, 0, logit_rows);
    AddRows(layer, logit_rows, next.data() + first);
  }
}

void DecisionMargin::AddRows(int layer, const Tensor& logits, const double* targets) {
  for (int64_t t = 0; t < logits.rows(); ++t) {
    const float* row = logits.as<float>() + t * spec_.padded_vocab;
    const auto target = static_cast<int64_t>(targets[t]);
    double other = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < spec_.vocab; ++i) {
      if (i != target) other = std::max<double>(other, row[i]);
    }
    const double margin = spec_.vocab > 1 ? row[target] - other : 0;
    margins_[layer] += margin;
    ahead_[layer] += margin > 0;
    tokens_[layer] += 1;
  }
}

void DecisionMargin::Reduce(Communicator& world) {
  for (std::vector<double>* numbers : {&margins_, &ahead_, &tokens_}) {
    world.AllReduceSum(Tensor(numbers->data(), DType::kF64, {static_cast<int64_t>(numbers->size())}),
                       {.operation = "decision margins"});
  }
}

}  // namespace unipool
