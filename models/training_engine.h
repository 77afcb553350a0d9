// One rank's whole machinery for a model: device, mesh, placement, schedule, dispatcher, stage, experts,
// optimizer, put together from a configuration. It turns samples into updates and losses, and knows no files;
// time only to tell what its statistics cost.
//
// On a device the host enqueues a step and waits in it for three things only: the row counts of each forward
// slot (while weight gradients run, see slot_executor.cc), what a staged transport brings, and at the end of
// the step loss and gradient norm, while the update runs.
#pragma once

#include <memory>
#include <numeric>
#include <optional>
#include <string>

#include "models/expert_replacer.h"
#include "models/host_mirror.h"
#include "models/language_model.h"
#include "models/optimizer.h"
#include "parallel/device_links.h"
#include "parallel/slot_executor.h"
#include "runtime/world.h"

namespace unipool {

enum class EngineMode { kTrain, kEvaluate };  // kEvaluate has no gradients and no optimizer state

struct EngineOptions {
  EngineMode mode = EngineMode::kTrain;
  std::optional<DType> dtype;  // instead of what the configuration says: tests compute in double
  // With device: CUDA, the device to use, which outlives the engine; null: the engine makes its own. Not used
  // with device: CPU.
  DeviceContext* device = nullptr;
};

// The rank that has used the most memory so far, and of what.
struct MemoryPeak {
  int rank = 0;
  MemoryParts bytes{};  // by MemoryKind at the moment of its peak
  int64_t total() const { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }
};

struct StepReport {
  double loss = 0;  // mean over the global batch's tokens, without the balancing loss
  double grad_norm = 0;
  LoadReport load;
  MemoryPeak memory;
};

class TrainingEngine {
 public:
  // Collective. REQUIRES: config is valid for this world (launcher/config.h).
  TrainingEngine(const Config& config, World& world, const EngineOptions& options = {});
  ~TrainingEngine();

  // How samples are dealt: the global batch has microbatches_per_rank() * data_ranks microbatches; number g
  // belongs to data rank g % data_ranks, as its microbatch g / data_ranks.
  int64_t microbatches_per_rank() const { return microbatches_per_rank_; }
  int64_t data_ranks() const;
  // Index of sequence i of this rank's microbatch m among the sequences of a (padded) batch.
  int64_t SequenceIndex(int64_t microbatch, int64_t i) const;

  // One optimizer step on this rank's samples [B, b, s + 1] I32. `step` counts from 0 and is the same on all
  // ranks. Collective over the world. Allocates nothing after the first two steps, unless routing brings this
  // rank more rows than ever before.
  StepReport TrainStep(int64_t step, double lr, const Tensor& samples);
  // Its two parts: all slots of the step, then gradients over ranks and the update.
  void ForwardBackward(int64_t step, const Tensor& samples);
  StepReport Update(int64_t step, double lr);
  // Between steps: places experts anew when parallel.replace_every says so; `steps_done` counts from 1. It
  // changes where experts are computed and no number. Collective over the world.
  std::optional<PlacementReport> ReplaceExpertsIfDue(int64_t steps_done);
  // Between steps: this placement, at once. Collective over the world.
  void MoveExpertsTo(const ExpertPlacement& placement) { replacer_->MoveTo(placement, -1); }
  const ExpertPlacement& placement() const { return placement_; }
  // Largest load of a rank / mean of the pool's ranks, over the slots of the last finished step
  // (parallel/slot_loads.h).
  double SlotImbalance() const { return replacer_->SlotImbalanceOf(balance_->step_counts()); }

  MemoryPeak MemoryOfRank(int rank) const;  // of any rank of the world, as of the last step

  // Sum of the token losses of a batch of num_sequences sequences, dealt like a global batch and padded to
  // whole rounds of microbatches; samples [rounds, b, s + 1] of this rank. Collective; the same on every
  // rank.
  double EvaluateLossSum(const Tensor& samples, int64_t num_sequences);
  // Logits [padded_vocab] F32 (F64 in tests), in host memory until the next call, for one more token of a
  // text that is generated on one rank; position counts from 0.
  Tensor NextLogits(int32_t token, int64_t position);

  // What a checkpoint holds, all in host memory: weights and aux-free biases; moments; balancing shares and
  // owners of experts. CollectState (collective) comes before reading it.
  std::vector<DiskTensor> DiskTensors() const;
  std::vector<OptimizerPiece> OptimizerPieces() const;
  std::vector<DiskTensor> StateTensors() const;
  void CollectState();
  void WeightsLoaded();  // after weights were written into DiskTensors
  // After weights, moments and state were written into these tensors. It may move experts, so lists of
  // tensors by name are no longer valid. Collective.
  void StateLoaded();

  // How device memory travels and why, a line for people; empty on the CPU.
  const std::string& transport() const { return transport_; }

  Stream& stream() { return *stream_; }
  const MemoryMeter& memory() const { return *memory_; }  // where the model lies
  const ModelSpec& spec() const { return spec_; }
  const Mesh& mesh() const { return *mesh_; }
  const LoadBalance& balance() const { return *balance_; }
  const TokenDispatcher& dispatcher() const { return *dispatcher_; }

 private:
  int64_t FirstPeak() const { return 2 + spec_.experts; }  // in sums_
  double TokensPerStep() const;                            // over all ranks
  // Memory of a device may run out in the middle of work, while exchanges are under way that name memory of
  // this rank. Nothing may unwind then: the job ends with the sentence.
  template <class Work>
  auto OrEndJob(Work&& work);
  void RunSlots(int64_t step, const Tensor& samples);
  StepReport ReduceAndApply(int64_t step, double lr);
  double EvaluateSlots(const Tensor& samples, int64_t num_sequences);
  void OpenDevice();
  void InitializeWeights();
  // The sum of the squared gradients, as [1] F64 of the device: of this rank's `squares`, over all ranks.
  Tensor SumSquaresOnDevice(const Tensor& squares, int64_t step);
  // Numbers [1] F64 of the stream's device come to the host: StartReading enqueues copies, Read waits.
  void StartReading(std::initializer_list<Tensor> numbers);
  std::span<const double> Read(const ExchangeLabel& label);

  const Config config_;
  World& world_;
  EngineOptions options_;
  ModelSpec spec_;
  DType dtype_;
  std::unique_ptr<DeviceContext> own_device_;
  DeviceContext* device_ = nullptr;  // null: the CPU
  MemoryMeter device_memory_;
  MemoryMeter* memory_;  // of the place where the model lies: the world's on the CPU
  std::optional<Stream> stream_;
  std::unique_ptr<DeviceLinks> links_;
  std::string transport_;
  HostMirror mirror_;
  Buffer total_squares_;            // [1] F64
  double* read_numbers_ = nullptr;  // pinned on a device
  std::vector<double> host_numbers_;
  DeviceContext::Event numbers_read_ = -1;
  Buffer decoded_;            // logits of NextLogits, on a device
  std::vector<char> logits_;  // and on the host
  int64_t microbatches_per_rank_ = 1;
  std::unique_ptr<Mesh> mesh_;
  ExpertPlacement placement_;
  std::vector<int> layers_per_stage_;
  std::unique_ptr<SlotSchedule> schedule_;
  std::unique_ptr<LoadBalance> balance_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<ExpertPool> experts_;
  std::unique_ptr<TokenDispatcher> dispatcher_;
  std::unique_ptr<SlotExecutor> executor_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<ExpertReplacer> replacer_;
  // Of a step, over all ranks: loss, squared dense gradients, squared gradients of each expert, peaks of
  // memory [ranks, kinds].
  std::vector<double> sums_;
};

}  // namespace unipool
