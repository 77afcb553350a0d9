// One rank's training step and evaluation: samples in, updates and losses out. It works on the parts of
// engine_parts.h; what checkpoints hold of them is in engine_state.h. It knows no files.
//
// On a device the host enqueues a step and waits in it for three things only:
//   what the host waits for              what the device does meanwhile
//   row counts of each forward slot      weight gradients (parallel/slot_executor.cc)
//   what a staged transport brings       the other lane's work
//   loss and gradient norm of the step   the update
#pragma once

#include <numeric>
#include <optional>

#include "models/engine_parts.h"
#include "models/engine_state.h"
#include "models/number_reader.h"
#include "models/step_sums.h"
#include "runtime/traffic_step.h"

namespace unipool {

// The rank that has used the most memory so far, and of what.
struct MemoryPeak {
  int rank = 0;
  MemoryParts bytes{};  // by MemoryKind at the moment of its peak
  HeldRows rows;        // that its arrays have held so far
  int64_t total() const { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }
};

struct StepReport {
  double loss = 0;  // mean over the global batch's tokens, without the balancing loss
  double grad_norm = 0;
  // Loss or gradient norm is no finite number, and the step changed nothing that a checkpoint holds: weights,
  // moments, biases, shares and counts are as before it. The same on all ranks.
  bool is_skipped = false;
  LoadReport load;
  // Share of a rank's experts that had rows, mean over ranks and batches of the forward lane. 0: no rows.
  double used_experts = 0;
  MemoryPeak memory;
  std::optional<TrafficStep> traffic;  // where exchanges are recorded
};

class TrainingEngine {
 public:
  // Collective. REQUIRES: config is valid for this world (launcher/config.h).
  TrainingEngine(const Config& config, World& world, const EngineOptions& options = {});
  ~TrainingEngine();

  EngineParts& parts() { return parts_; }
  const EngineParts& parts() const { return parts_; }
  EngineState& state() { return state_; }
  const EngineState& state() const { return state_; }

  // How samples are dealt: the global batch has microbatches_per_rank() * data_ranks() microbatches; number g
  // belongs to data rank g % data_ranks, as its microbatch g / data_ranks.
  int64_t microbatches_per_rank() const { return parts_.schedule.num_microbatches(); }
  int64_t data_ranks() const { return parts_.mesh.shape().data_ranks(); }
  // Index of sequence i of this rank's microbatch m among the sequences of a (padded) batch. The second is
  // for sequences shorter than the model's, of which a microbatch has more.
  int64_t SequenceIndex(int64_t microbatch, int64_t i) const;
  int64_t SequenceIndex(int64_t microbatch, int64_t i, int64_t per_microbatch) const;

  // One optimizer step on this rank's samples [B, b, s + 1] I32, skipped unless loss and gradient norm are
  // finite (StepReport). `step` counts from 0 and is the same on all ranks. Collective over the world.
  // Allocates nothing after the first two steps, unless routing brings this rank more rows than ever before.
  StepReport TrainStep(int64_t step, double lr, const Tensor& samples);
  // Its two parts: all slots of the step, then gradients over ranks and the update.
  void ForwardBackward(int64_t step, const Tensor& samples);
  // Riders are numbers of the caller that travel with the step's sums, StepSums::kMostRiders at most. Each
  // becomes the sum over all ranks.
  StepReport Update(int64_t step, double lr, std::span<double> riders = {});

  // Of any rank of the world, as of the last step.
  MemoryPeak MemoryOfRank(int rank) const;
  // Largest load of a rank / mean of the pool's ranks, over the slots of the last finished step
  // (parallel/slot_loads.h).
  double SlotImbalance() const {
    return parts_.replacer.SlotImbalanceOf(parts_.use.statistics.step_counts());
  }

  // Between steps: places experts anew when parallel.replace_every says so; `steps_done` counts from 1. It
  // changes where experts are computed and no number. Collective over the world.
  // At the lock it places them by their owners.
  std::optional<PlacementReport> ReplaceExpertsIfDue(int64_t steps_done);

  // Sum of the token losses of a batch of num_sequences sequences, dealt like a global batch and padded to
  // whole rounds of microbatches; samples [rounds, b, s + 1] of this rank. Sequences may be shorter than the
  // model's, and as many as b s <= micro_batch * seq_length allows. Collective; the same on every rank.
  // Riders travel along as with Update.
  double EvaluateLossSum(const Tensor& samples, int64_t num_sequences, std::span<double> riders = {});
  // Generation, see LanguageModel::NextLogits.
  Tensor NextLogits(int32_t token, int64_t position) {
    return parts_.model.NextLogits(token, position, parts_.experts);
  }

 private:
  double TokensPerStep() const;  // over all ranks
  // Memory of a device may run out in the middle of work, while exchanges are under way that name memory of
  // this rank. Nothing may unwind then: the job ends with the sentence.
  template <class Work>
  auto OrEndJob(Work&& work);
  void RunSlots(int64_t step, const Tensor& samples);
  StepReport ReduceAndApply(int64_t step, double lr, std::span<const double> riders);
  // Of gradients that are summed over the ranks that share parameters.
  void ApplyOnDevice(const Tensor& own_numbers, int64_t step, double lr);
  // Adds the numbers of all ranks up and tells what they say.
  StepReport ReduceSums(int64_t step);
  double EvaluateSlots(const Tensor& samples, int64_t num_sequences, std::span<double> riders);

  World& world_;
  TrafficRecorder* const recorder_;
  WorkMeter* const meter_;
  EngineParts parts_;
  EngineState state_;
  NumberReader reader_;
  Buffer totals_;  // [2] F64 on a device, over all ranks: squared gradient norm, loss
  std::optional<TrafficStepSums> traffic_;  // with a recorder
  StepSums sums_;                           // of the last step, over all ranks
};

}  // namespace unipool
