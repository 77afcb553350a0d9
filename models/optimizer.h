// AdamW over everything that a rank must update: its part of the dense parameters, and the experts it owns.
// Masters, moments and gradients are F32 (F64 in tests), also where the model computes in BF16. Only matrices
// decay. The gradient norm counts each parameter once in every layout, and it is the same number wherever
// experts live.
#pragma once

#include <vector>

#include "kernels/adamw.h"
#include "models/dense_parameters.h"
#include "models/expert_pool.h"
#include "parallel/gradient_sync.h"
#include "runtime/range.h"

namespace unipool {

struct OptimizerOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  double clip = 1.0;  // largest global gradient norm; 0: no clipping
};

class Optimizer {
 public:
  // num_experts: M, of the whole pool. `head`: of a spread head, on all ranks of the world; otherwise empty,
  // and `dense` has the head's weight.
  Optimizer(DenseParameters& dense, DenseParameters& head, ExpertPool& experts, int64_t num_experts,
            const Mesh& mesh, const OptimizerOptions& options, Stream& stream, MemoryMeter& memory);

  void ClearGrads();
  // Sums gradients over the ranks that share parameters: dense gradients over the data ranks of a stage, a
  // spread head's over the world, experts' gradients over the replicas of the pool. Collective. Returns what
  // all ranks must know of the step before its update, [2 + M] F64 on the stream's device, valid until the
  // next call:
  //   [0]      squared norm of this rank's part of the dense gradients
  //   [1 + i]  squared norm of the gradient of expert i, on one of the ranks that own it; 0 on all others
  //   [1 + M]  this rank's `loss`, copied, so that it travels with the norms
  // Summed over the world every parameter is counted once, and an expert's number does not depend on where
  // the expert lives.
  Tensor ReduceGradients(int64_t step, const Tensor& loss /*[1] F64*/);
  // Update number `step` + 1, with gradients scaled down to the clip norm. Collective. The gradient norm is
  // given by the host, which does not call this unless loss and norm are finite. Or the numbers lie on the
  // stream's device and the host has not seen them: totals = {squared gradient norm, loss}. Unless both are
  // finite, weights and moments stay.
  void Apply(int64_t step, double lr, double grad_norm) { Update(step, lr, ScaleFor(grad_norm), {}); }
  void Apply(int64_t step, double lr, const Tensor& totals /*[2] F64*/) { Update(step, lr, 1, totals); }

  // Arrays of expert moments, [E, ...] each. Moments move with their experts.
  std::vector<Tensor> ExpertMoments() const {
    return {first_experts_.gate_up, first_experts_.down, second_experts_.gate_up, second_experts_.down};
  }
  // Moments by their names on disk, for checkpoints.
  std::vector<OptimizerPiece> Pieces() const;
  int64_t num_updated() const { return num_moments_ / 2; }  // parameters that this rank updates
  Tensor flat_moments() const { return moments_.View(dense_.first.dtype, {num_moments_}); }  // all moments

 private:
  double ScaleFor(double grad_norm) const;
  void Update(int64_t step, double lr, double grad_scale, const Tensor& totals);
  // Dense parameters that the same ranks hold, in one flat array. This rank updates one part of it.
  struct DenseArray {
    DenseParameters& parameters;
    Range part;
    Tensor first, second;  // moments of the part
    Tensor OwnGrads() const { return parameters.flat_grads().Rows(part.begin, part.size()); }
    bool is_whole() const { return part.size() == parameters.num_elements(); }
  };
  void UpdateDense(const DenseArray& array, const AdamWArgs& args, WeightDecay decay);
  void UpdateExperts(const AdamWArgs& args);
  void AddPieces(const DenseArray& array, std::vector<OptimizerPiece>& pieces) const;
  bool has_head() const { return head_.parameters.num_elements() > 0; }
  DenseArray dense_, head_;
  ExpertPool& experts_;
  int64_t num_experts_;
  GradientSync sync_;
  const Mesh& mesh_;
  OptimizerOptions options_;
  Stream& stream_;
  Buffer moments_, squares_;
  int64_t num_moments_ = 0;
  std::vector<AdamWTensors> group_;                     // of one call
  ExpertPool::Weights first_experts_, second_experts_;  // moments
};

}  // namespace unipool
