// AdamW over everything a rank must update: its part of the dense parameters and the experts it owns. Moments
// are fp32 (the model's dtype in tests); weight decay on matrices only; the gradient norm counts each
// parameter once in every layout, and is the same number wherever experts live.
#pragma once

#include <span>
#include <vector>

#include "kernels/adamw.h"
#include "models/dense_parameters.h"
#include "models/expert_pool.h"
#include "parallel/gradient_sync.h"

namespace unipool {

struct OptimizerOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  double clip = 1.0;  // largest global gradient norm; 0: no clipping
};

class Optimizer {
 public:
  Optimizer(DenseParameters& dense, ExpertPool& experts, const Mesh& mesh, const OptimizerOptions& options,
            Stream& stream, MemoryMeter& memory);

  void ClearGrads();
  // Sums gradients over the ranks that share parameters. Returns the squared norm of this rank's part of the
  // dense gradients and adds that of expert i to expert_squares[i], on one of the ranks that own it. So
  // summed over the world every parameter is counted once, and an expert's square does not depend on where it
  // lives. Collective.
  double ReduceGradients(int64_t step, std::span<double> expert_squares /*[M]*/);
  // Update number `step` + 1 with gradients scaled down to the clip norm. Collective.
  void Apply(int64_t step, double lr, double grad_norm);

  // Arrays of expert moments, [E, ...] each: they move with their experts.
  std::vector<Tensor> ExpertMoments() const {
    return {expert_first_.gate_up, expert_first_.down, expert_second_.gate_up, expert_second_.down};
  }
  // Moments by disk names, for checkpoints.
  std::vector<OptimizerPiece> Pieces() const;

 private:
  AdamWArgs ArgsFor(int64_t step, double lr, double grad_norm) const;
  Tensor DensePart(const Tensor& flat) const { return flat.Rows(part_.begin, part_.size()); }
  DenseParameters& dense_;
  ExpertPool& experts_;
  GradientSync sync_;
  const Mesh& mesh_;
  OptimizerOptions options_;
  Stream& stream_;
  Range part_;  // of the flat dense array, whose moments live here
  Buffer moments_;
  Tensor dense_first_, dense_second_;  // [part]
  ExpertPool::Weights expert_first_, expert_second_;
};

}  // namespace unipool
