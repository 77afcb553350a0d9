// Keeps experts evenly used (DESIGN section 7): the pool loss over a balance group's layers, the Switch loss
// of one layer, or the aux-free bias; and the step's exact expert loads for metrics and placement.
//
//   L_pool = alpha * M * sum_i fbar_i * Pbar_i,  averaged over microbatches, summed over balance groups
//
// fbar: mean over the group's layers of the share of choices that went to expert i; Pbar: mean over layers
// and tokens of the score. M counts the group's experts. Only Pbar carries gradient and it is linear, so the
// gradient is one number per expert, alpha * M * fbar_i / (layers * T * microbatches), added to the score
// gradient of every token. fbar comes from the previous step (STEP) or the previous microbatch (MICROBATCH,
// RANK); while there is none, there is no loss. The Switch loss takes f and P of the layer's own microbatch:
// alpha * M * sum_i f_i * P_i, summed over layers.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "configs/config.pb.h"
#include "models/model_spec.h"
#include "models/parameter.h"
#include "parallel/mesh.h"
#include "parallel/pool_balance.h"
#include "runtime/range.h"
#include "runtime/stream.h"

namespace unipool {

struct BalanceOptions {
  Balance::Value balance = Balance::POOL_LOSS;
  BalanceScope::Value scope = BalanceScope::STEP;
  double coeff = 0.01;                 // alpha; BIAS: change of a bias per step
  int64_t tokens_per_microbatch = 0;   // T
  int64_t microbatches_per_rank = 0;   // B
  int64_t microbatches_in_flight = 2;  // between a microbatch's forward and backward on a stage, at most
  std::function<double()>
      clock;  // this rank's time in seconds, to tell what the statistics cost; may be empty
};

// What one step says about the use of experts, the same on every rank but for `seconds`.
struct LoadReport {
  double pool_loss = 0;             // as added to the training loss
  double pool_loss_at_balance = 0;  // its value if shares were even: alpha * sum_i Pbar_i
  double max_violation = 0;         // over balance groups: largest load of an expert / mean load - 1
  int64_t dead_experts = 0;         // experts that no token of the step chose
  double zero_score_share = 0;      // share of token-layers without a positive score
  int64_t shares_age = -1;  // steps (STEP) or microbatches from the counting of the shares that the step's
                            // last microbatch used to that microbatch; -1: no pool loss, or no shares yet
  double seconds = 0;  // this rank spent starting and awaiting the step's statistics (late ranks included)
};

class LoadBalance {
 public:
  // Collective over the mesh's world. `dtype` is that of the router's numbers; visible, bias, auxiliary
  // gradients and importance lie on the stream's device, which `memory` counts; all else is the host's.
  LoadBalance(const ModelSpec& spec, const BalanceOptions& options, const Mesh& mesh, DType dtype,
              Stream& stream, MemoryMeter& memory);

  void BeginStep(int64_t step);
  // Books the choices of one layer (of the model) for the running forward microbatch. Host memory.
  void AddLayer(int layer, const Tensor& counts /*[M] I64*/, int64_t zero_tokens);
  // The running microbatch's choices are complete on this rank. MICROBATCH and RANK start their reduction
  // here, without waiting for it.
  void EndMicrobatch(int64_t microbatch);
  // The auxiliary gradient of every score of expert i in this layer, [M] (zeros without a loss); books the
  // loss. Once per layer and microbatch, in the backward. Valid in the stream until the next call. Counts and
  // sums are host memory.
  Tensor AuxGradient(int layer, int64_t microbatch, const Tensor& counts,
                     const Tensor& score_sum /*[M] F64*/);
  // Reduces the step's loads over the world, renews STEP's shares and BIAS's biases. The caller's sums in
  // `extra` ride along in the same exchange and come back summed over all ranks. Collective over the world.
  LoadReport EndStep(std::span<double> extra);

  Tensor visible(int layer) const { return visible_.Rows(layer, 1).Reshape({spec_.experts}); }  // [M]
  Tensor bias(int layer) const;        // [M]; empty unless BIAS
  Tensor importance(int layer) const;  // [M] F64, this rank's rows since BeginStep
  // Global counts [L * M] of the last finished step.
  const std::vector<double>& step_counts() const { return step_counts_; }

  // Shares in force between steps, for checkpoints of POOL_LOSS, with the step that they close: its number
  // holds however many microbatches a step has. CollectState is collective over the world and comes before
  // reading the tensors; StateLoaded follows their loading. RANK's shares belong to a number of data ranks
  // and are dropped on another.
  void CollectState();
  std::vector<DiskTensor> State() const;
  void StateLoaded();
  // Aux-free biases as disk tensors, one per layer of [begin, end). SendBias, after they were written, brings
  // them to the stream's device.
  std::vector<DiskTensor> BiasTensors(Range layers) const;
  void SendBias();

 private:
  struct Group {
    int64_t layers = 0, experts = 0;
  };
  int64_t GroupSize() const { return static_cast<int64_t>(groups_.size()) * spec_.experts; }
  // Runs work(), which talks to other ranks, and books the time it takes.
  template <class Work>
  void Timed(Work&& work) {
    const double begin = options_.clock ? options_.clock() : 0;
    work();
    if (options_.clock) seconds_ += options_.clock() - begin;
  }
  void CountsToShares(const double* counts /*[groups * M]*/);
  void RefreshShares(int64_t microbatch);
  void FillAux(int layer, const Tensor& counts, const Tensor& score_sum);
  // The step's, or its last microbatch's, number; -1 for step -1.
  int64_t LastNumberOf(int64_t step) const {
    return reduction_ ? (step + 1) * options_.microbatches_per_rank - 1 : step;
  }
  void UpdateBias();
  void CountGroups();
  LoadReport MakeReport() const;
  bool IsDead(int64_t expert) const;

  const ModelSpec& spec_;
  BalanceOptions options_;
  const Mesh& mesh_;
  Stream& stream_;
  std::vector<Group> groups_;
  Buffer typed_, importance_buffer_;
  Tensor visible_, bias_, aux_;  // [L, M], [groups, M], [M] of the router's dtype
  Tensor importance_;            // F64 [L, M]
  // Of the host: what the bias is, and what checkpoints hold.
  MemoryMeter host_memory_;
  Buffer host_bias_buffer_, state_buffer_;
  Tensor host_bias_;                       // as bias_
  Tensor state_shares_, state_step_;       // F64 [1 or data ranks, groups * M], [1]
  std::vector<double> aux_values_;         // [M]
  std::vector<double> bias_values_;        // [groups * M]
  std::vector<double> step_sums_;          // counts [L * M], pool loss, at balance, zero tokens, extras
  std::vector<double> step_counts_;        // [L * M]
  std::vector<double> group_counts_;       // [groups * M] of the last finished step
  std::vector<double> microbatch_counts_;  // [groups * M] of the running forward microbatch
  std::vector<double> shares_;             // [groups * M]: fbar in force
  int64_t shares_number_ = -1;             // step or microbatch they were counted in; -1: none
  int64_t step_ = 0;
  double seconds_ = 0;                      // of the running step
  std::unique_ptr<PoolBalance> reduction_;  // MICROBATCH and RANK
};

}  // namespace unipool
