// The experts of the pool that this rank owns, and their gradients. An expert is a feed-forward network
//
//   y = down (silu(gate x) * up x)          (SwiGLU)
//
// In one slot rows of all layers and stages reach it, so its products are grouped: one call for all experts
// of the rank (kernels/grouped_gemm.h). All slots of a step add to one gradient per expert. Where the experts
// are replicated, the optimizer sums the gradients over the replicas (parallel/gradient_sync.h).
//
// Master weights and gradients have AccumulatorOf(the type that the experts compute in); see
// dense_parameters.h for `master` and `compute`. Letters: README.md.
#pragma once

#include <memory>
#include <vector>

#include "models/model_spec.h"
#include "models/parameter.h"
#include "models/weight_grad_banks.h"
#include "parallel/expert_placement.h"
#include "parallel/pipeline_stage.h"

namespace unipool {

struct ExpertPoolOptions {
  DType dtype = DType::kF32;
  int64_t max_rows = 0;  // the most rows that one slot can bring: W * T * K
  // The backward computes gate and up again. Otherwise the forward keeps them.
  bool recompute = false;
  // Backward slots whose weight gradients are added up at once (weight_grad_banks.h). 1: each slot's at its
  // own time.
  int weight_grad_slots = 1;
  bool trainable = true;  // false: no gradients (evaluation, generation)
};

class ExpertPool : public ExpertHost {
 public:
  ExpertPool(const ModelSpec& spec, const ExpertPlacement& placement, int pool_rank,
             const ExpertPoolOptions& options, Stream& stream, MemoryMeter& memory);

  // Columns that the dispatcher keeps of each row for the backward: gate and up, or nothing if the backward
  // computes them again.
  static int64_t KeptColumns(const ModelSpec& spec, bool recompute) {
    return recompute ? 0 : 2 * spec.expert_width;
  }

  void Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) override;
  void BackwardInput(const OwnerBatch& batch, const Tensor& dx) override;
  void BackwardWeights(const OwnerBatch& batch, WeightPart part) override;
  void FinishWeights() override;

  // Writes the initial values into memory of the host, for the tensors of DiskTensors(master()).
  void Initialize(uint64_t seed, const std::vector<DiskTensor>& host_masters) const;
  // Experts have moved (parallel/expert_move.h): the weight arrays hold other experts now, as many as before.
  // Gradients are gone.
  void SetExperts(const ExpertPlacement& placement, int pool_rank);
  // The masters have changed: rounds them into the copies. Nothing where there are no copies.
  void RefreshCompute();

  void ClearGrads() {
    has_grad_.assign(has_grad_.size(), 0);
    has_down_grad_.assign(has_down_grad_.size(), 0);
  }
  int num_local() const { return static_cast<int>(local_.size()); }
  const std::vector<int>& local_experts() const { return local_; }  // their numbers in the pool, ascending
  // The two weight arrays: gate and up as one matrix [E, 2F, D] (gate first), down [E, D, F].
  struct Weights {
    Tensor gate_up, down;
  };
  const Weights& master() const { return master_; }
  // Empty where the experts compute with the masters.
  const Weights& compute_copies() const { return copies_; }
  const Weights& grads() const { return grads_; }
  Tensor flat_master() const;  // both arrays of masters, contiguous
  // False while no row has reached local expert e since ClearGrads. Then its gradient is zero, and the memory
  // of its gradient holds nothing.
  bool has_grad(int e) const { return has_grad_[e] != 0; }
  // Writes zeros into the gradients of experts that no row has reached, for reductions over replicas.
  void ZeroMissingGrads();

  // The local experts' weights by their names on disk: gate, up and down of each expert. `of` is master() or
  // arrays of moments with the same shapes.
  std::vector<DiskTensor> DiskTensors(const Weights& of) const;

 private:
  // The rows of one piece: [begin, end) of the batch, and the offsets [E + 1] in it of all local experts.
  struct Piece {
    Range rows;
    std::span<const int64_t> offsets;
    Tensor Of(const Tensor& all) const { return all.Rows(rows.begin, rows.size()); }
  };
  Piece PieceOf(const OwnerBatch& batch);  // valid until the next call
  void AddGateUp(const WeightGradBanks::Work& work);
  void AddDown(const WeightGradBanks::Work& work);
  bool has_copies() const { return !copies_.down.empty(); }
  const Weights& compute() const { return has_copies() ? copies_ : master_; }
  const ModelSpec& spec_;
  Stream& stream_;
  ExpertPoolOptions options_;
  std::vector<int> local_;
  struct Buffers {
    Buffer master, copies, grads;
  };
  Buffers buffers_;
  Weights master_, copies_, grads_;
  std::vector<uint8_t> has_grad_, has_down_grad_;
  // Of one slot, reserved for the most rows that it can bring.
  struct Scratch {
    Buffer gate_up, activation, dgate_up, dactivation;
  };
  Scratch scratch_;
  std::vector<int64_t> piece_offsets_;
  std::unique_ptr<WeightGradBanks> banks_;  // of several slots
};

}  // namespace unipool
