// The experts of the pool that this rank owns, its shadows of other ranks' experts (parallel/SHADOWS.md), and
// the gradients of both. An expert is a feed-forward network
//
//   y = down (silu(gate x) * up x)          (SwiGLU)
//
// In one slot rows of all layers and stages reach it, so its products are grouped: one call for all experts
// of the rank (kernels/grouped_gemm.h). All slots of a step add to one gradient per expert. Where the experts
// are replicated, the optimizer sums the gradients over the replicas (parallel/gradient_sync.h).
//
// Master weights and gradients have AccumulatorOf(the type of products); see dense_parameters.h for `master`
// and `compute`. What only products read (activation, dgate_up) is kept in their type. Letters: README.md.
#pragma once

#include <memory>
#include <vector>

#include "models/compute_types.h"
#include "models/model_spec.h"
#include "models/parameter.h"
#include "models/weight_grad_banks.h"
#include "parallel/expert_placement.h"
#include "parallel/pipeline_stage.h"
#include "parallel/shadow_sync.h"

namespace unipool {

struct ExpertPoolOptions {
  ComputeTypes types;
  int64_t max_rows = 0;  // the most rows that one slot can bring: W * T * K
  // The backward computes gate and up again. Otherwise the forward keeps them.
  bool recompute = false;
  // Backward slots whose weight gradients are added up at once (weight_grad_banks.h). 1: each slot's at its
  // own time.
  int weight_grad_slots = 1;
  bool trainable = true;         // false: no gradients (evaluation, generation)
  Communicator* pool = nullptr;  // the pool group, of device memory; null where there is no room for shadows
};

class ExpertPool : public ExpertHost {
 public:
  // The placement must outlive it.
  ExpertPool(const ModelSpec& spec, const ExpertPlacement& placement, int pool_rank,
             const ExpertPoolOptions& options, Stream& stream, MemoryMeter& memory);

  // Columns that the dispatcher keeps of each row for the backward: gate and up, or nothing if the backward
  // computes them again.
  static int64_t KeptColumns(int64_t expert_width, bool recompute) {
    return recompute ? 0 : 2 * expert_width;
  }

  void Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) override;
  void BackwardInput(const OwnerBatch& batch, const Tensor& dx) override;
  void BackwardWeights(const OwnerBatch& batch, WeightPart part) override;
  void FinishWeights(int64_t step) override;

  // Writes the initial values into memory of the host, for the tensors of DiskTensors(master()).
  void Initialize(uint64_t seed, const std::vector<DiskTensor>& host_masters) const;
  // The placement has changed (parallel/expert_move.h): the weight arrays hold other experts now, as many as
  // before. Gradients are gone.
  void SetExperts();
  // Between steps: takes memory for so many rows of a slot, where rows have been before.
  void MakeRoom(int64_t rows);
  // The masters have changed: rounds them into the copies. Nothing where there are no copies.
  void RefreshCompute();

  // Shadows: before the first slot of a run, the weights of the last update begin to travel to them. The
  // first rows wait for them. Collective over the pool group; nothing without room for shadows.
  void StartShadows(int64_t step);
  void WeightsChanged();
  // After the last slot of a step: adds the gradients of shadows, which travel since FinishWeights, to those
  // of their owners. Collective.
  void CollectShadowGrads();

  void ClearGrads() {
    has_grad_.assign(has_grad_.size(), 0);
    has_down_grad_.assign(has_down_grad_.size(), 0);
  }
  int num_local() const { return static_cast<int>(local_.size()); }
  // Numbers in the pool of the own experts, ascending.
  const std::vector<int>& local_experts() const { return local_; }
  int num_places() const { return num_local() + placement_.num_shadows(); }
  // The two weight arrays: gate and up as one matrix [E, 2F, D] (gate first), down [E, D, F].
  struct Weights {
    Tensor gate_up, down;
  };
  const Weights& master() const { return master_; }
  // Empty where the experts compute with the masters.
  Weights compute_copies() const { return has_copies() ? OwnOf(compute_) : Weights{}; }
  Weights grads() const { return OwnOf(grads_); }
  // Both arrays of masters, contiguous; where shadows compute with masters, also the shadows' weights.
  Tensor flat_master() const {
    const DType dtype = master_.down.dtype;
    return buffers_.master.View(dtype, {buffers_.master.max_bytes() / SizeOf(dtype)});
  }
  // False while no row has reached local expert e since ClearGrads. Then its gradient is zero, and the memory
  // of its gradient holds nothing.
  bool has_grad(int e) const { return has_grad_[e] != 0; }
  // Writes zeros into the gradients of own experts that no row has reached, for sums over ranks.
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
  void TakeMemoryOfShadows();
  void ZeroIfMissing(int place);
  bool has_copies() const { return options_.types.products != AccumulatorOf(options_.types.products); }
  // Of the rows of all places those of the own experts.
  Weights OwnOf(const Weights& all) const {
    return {all.gate_up.Rows(0, num_local()), all.down.Rows(0, num_local())};
  }
  const ModelSpec& spec_;
  Stream& stream_;
  ExpertPoolOptions options_;
  const ExpertPlacement& placement_;
  const int pool_rank_;
  std::vector<int> local_;
  struct Buffers {
    Buffer master, copies, grads;
  };
  Buffers buffers_;
  // master_ [E, ...]; the two others with a row for each place of the rank. Without copies the experts
  // compute with the memory of master_, behind which the shadows' weights lie.
  Weights master_, compute_, grads_;
  std::vector<uint8_t> has_grad_, has_down_grad_;
  // Of one slot, reserved for the most rows that it can bring.
  struct Scratch {
    Buffer gate_up, activation, dgate_up, dactivation;
  };
  Scratch scratch_;
  std::vector<int64_t> piece_offsets_;
  std::unique_ptr<WeightGradBanks> banks_;  // of several slots
  std::unique_ptr<ShadowSync> shadows_;     // with room for shadows
};

}  // namespace unipool
