// The experts of the pool that this rank owns: SwiGLU feed-forward networks y = down (silu(gate x) * up x),
// their gradients, and the grouped products over the rows of all layers and stages that reached them in a
// slot. Master weights and gradients are AccumulatorOf(the dtype that the experts compute in). Where that is
// another type, the experts compute with rounded copies.
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
  int64_t max_rows = 0;    // rows one slot can bring: W * T * K
  bool recompute = false;  // recompute gate and up in the backward instead of keeping them
  // Backward slots whose weight gradients are added up at once (weight_grad_banks.h); 1: each at its own
  // time.
  int weight_grad_slots = 1;
  bool trainable = true;  // false: no gradients (evaluation, generation)
};

class ExpertPool : public ExpertHost {
 public:
  ExpertPool(const ModelSpec& spec, const ExpertPlacement& placement, int pool_rank,
             const ExpertPoolOptions& options, Stream& stream, MemoryMeter& memory);

  // Columns of a row that the dispatcher keeps for the backward: 2F, or 0 when recomputed.
  static int64_t KeptColumns(const ModelSpec& spec, bool recompute) {
    return recompute ? 0 : 2 * spec.expert_width;
  }

  void Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) override;
  void BackwardInput(const OwnerBatch& batch, const Tensor& dx) override;
  void BackwardWeights(const OwnerBatch& batch, WeightPart part) override;
  void FinishWeights() override;

  // Initial values, into memory of the host for the tensors of DiskTensors(master()).
  void Initialize(uint64_t seed, const std::vector<DiskTensor>& host_masters) const;
  // The rows of the weight arrays have become those of other experts, as many as before
  // (parallel/expert_move.h); gradients are gone.
  void SetExperts(const ExpertPlacement& placement, int pool_rank);
  // The copies become the masters, rounded.
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
  const Weights& compute_copies() const { return copies_; }  // empty where they compute with the masters
  const Weights& grads() const { return grads_; }
  Tensor flat_master() const;  // all of them, contiguous
  // False while no row has reached local expert e since ClearGrads: its gradient is zero and its memory holds
  // nothing.
  bool has_grad(int e) const { return has_grad_[e] != 0; }
  // Makes every gradient real memory (zero where nothing came), for reductions over replicas.
  void ZeroMissingGrads();

  // The local experts' weights by disk name, in order gate, up, down; `of` selects masters or, with the same
  // shapes, moments.
  std::vector<DiskTensor> DiskTensors(const Weights& of) const;

 private:
  void GateUp(const OwnerBatch& batch, const Tensor& gate_up);
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
  std::unique_ptr<WeightGradBanks> banks_;  // of several slots
};

}  // namespace unipool
