#include "models/training_engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "models/stage_layers.h"
#include "runtime/emulated_communicator.h"

namespace unipool {

namespace {

Device DeviceOf(const Config& config) {
  switch (config.device()) {
    case CPU:
      return Device::kCpu;
  }
  LOG(FATAL) << "unknown device " << config.device();
}

// The rank's time in seconds: virtual where a cluster is emulated.
std::function<double()> ClockOf(World& world) {
  if (EmulatedRank* rank = world.emulation) return [rank] { return rank->Now(); };
  return [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
}

}  // namespace

TrainingEngine::TrainingEngine(const Config& config, World& world, const EngineOptions& options)
    : config_(config),
      world_(world),
      options_(options),
      spec_(MakeModelSpec(config)),
      stream_(*world.memory, DeviceOf(config)) {
  const MeshShape shape = MeshShapeOf(config.parallel(), world.size());
  const TrainConfig& train = config.train();
  const bool is_training = options.mode == EngineMode::kTrain;
  mesh_ = std::make_unique<Mesh>(*world.communicator, shape);
  microbatches_per_rank_ = train.global_batch() / (train.micro_batch() * shape.data_ranks());
  const int64_t tokens = train.micro_batch() * spec_.seq_length;
  const int64_t max_in_flight = 2 * shape.stages + 1;  // a received input waits beside those in flight
  MemoryMeter& memory = *world.memory;

  layers_per_stage_ = LayersPerStage(config, shape);
  schedule_ = std::make_unique<SlotSchedule>(
      layers_per_stage_, static_cast<int>(std::max<int64_t>(1, microbatches_per_rank_)), !is_training);
  placement_ = FirstPlacement(spec_, config.parallel().placement(), *schedule_, shape);
  balance_ = std::make_unique<LoadBalance>(spec_,
                                           BalanceOptions{.balance = config.moe().balance(),
                                                          .scope = config.moe().balance_scope(),
                                                          .coeff = config.moe().balance_coeff(),
                                                          .tokens_per_microbatch = tokens,
                                                          .microbatches_per_rank = microbatches_per_rank_,
                                                          .microbatches_in_flight = max_in_flight,
                                                          .clock = ClockOf(world)},
                                           *mesh_, options.dtype, memory);
  const int stage = mesh_->position().stage;
  model_ = std::make_unique<LanguageModel>(
      spec_,
      LanguageModelOptions{.dtype = options.dtype,
                           .seed = train.seed(),
                           .micro_batch = train.micro_batch(),
                           .max_in_flight = max_in_flight,
                           .layers = LayersOfStage(layers_per_stage_, stage),
                           .is_first = stage == 0,
                           .is_last = stage == shape.stages - 1,
                           .is_trainable = is_training,
                           .recompute_attention = is_training && train.recompute_attention()},
      placement_, *balance_, stream_, memory);
  experts_ = std::make_unique<ExpertPool>(spec_, placement_, mesh_->pool().rank(),
                                          ExpertPoolOptions{.dtype = options.dtype,
                                                            .seed = train.seed(),
                                                            .max_rows = shape.pool() * tokens * spec_.top_k,
                                                            .recompute = train.recompute_experts(),
                                                            .trainable = is_training},
                                          stream_, memory);
  dispatcher_ = std::make_unique<TokenDispatcher>(
      *mesh_, placement_, *schedule_,
      DispatcherOptions{
          .row_size = spec_.hidden,
          .dtype = options.dtype,
          .max_rows = tokens * spec_.top_k,
          .kept_columns = is_training ? ExpertPool::KeptColumns(spec_, train.recompute_experts()) : 0},
      stream_, memory);
  executor_ = std::make_unique<SlotExecutor>(*mesh_, *dispatcher_, *model_, *experts_, options.lane_order);
  if (is_training) {
    optimizer_ = std::make_unique<Optimizer>(model_->parameters(), *experts_, *mesh_,
                                             OptimizerOptions{.beta1 = train.beta1(),
                                                              .beta2 = train.beta2(),
                                                              .eps = train.adam_eps(),
                                                              .weight_decay = train.weight_decay(),
                                                              .clip = train.clip()},
                                             stream_, memory);
  }
  replacer_ = std::make_unique<ExpertReplacer>(spec_, config.parallel(), *mesh_, *schedule_, placement_,
                                               *experts_, optimizer_.get(), memory);
}

TrainingEngine::~TrainingEngine() = default;

int64_t TrainingEngine::data_ranks() const {
  return mesh_->shape().data_ranks();
}

int64_t TrainingEngine::SequenceIndex(int64_t microbatch, int64_t i) const {
  const int64_t global_microbatch = microbatch * data_ranks() + mesh_->data_rank();
  return global_microbatch * config_.train().micro_batch() + i;
}

StepReport TrainingEngine::TrainStep(int64_t step, double lr, const Tensor& samples) {
  ForwardBackward(step, samples);
  return Update(step, lr);
}

double TrainingEngine::TokensPerStep() const {
  return static_cast<double>(config_.train().global_batch() * spec_.seq_length);
}

void TrainingEngine::ForwardBackward(int64_t step, const Tensor& samples) {
  CHECK(optimizer_) << "an engine for evaluation cannot train";
  CHECK_EQ(samples.dim(0), microbatches_per_rank_);
  optimizer_->ClearGrads();
  balance_->BeginStep(step);
  model_->SetSamples(samples, 1 / TokensPerStep(), samples.dim(0) * samples.dim(1));
  executor_->Run(*schedule_, step);
}

StepReport TrainingEngine::Update(int64_t step, double lr) {
  // Loss, squared gradients (dense and of each expert), loads and each rank's peak memory travel in one
  // exchange.
  sums_.assign(FirstPeak() + world_.size() * kNumMemoryKinds, 0);
  const std::span<double> squares(sums_.data() + 1, 1 + spec_.experts);
  sums_[0] = model_->loss_sum();
  squares[0] = optimizer_->ReduceGradients(step, squares.subspan(1));
  std::copy_n(world_.memory->parts_at_peak().begin(), kNumMemoryKinds,
              sums_.begin() + FirstPeak() + world_.rank() * kNumMemoryKinds);
  StepReport report;
  report.load = balance_->EndStep(sums_);
  report.loss = sums_[0] / TokensPerStep();
  report.grad_norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
  for (int rank = 0; rank < world_.size(); ++rank) {
    const MemoryPeak peak = MemoryOfRank(rank);
    if (peak.total() > report.memory.total()) report.memory = peak;
  }
  optimizer_->Apply(step, lr, report.grad_norm);
  replacer_->AddStep(balance_->step_counts());
  return report;
}

std::optional<PlacementReport> TrainingEngine::ReplaceExpertsIfDue(int64_t steps_done) {
  return replacer_->ReplaceIfDue(steps_done);
}

MemoryPeak TrainingEngine::MemoryOfRank(int rank) const {
  MemoryPeak peak{.rank = rank};
  std::copy_n(sums_.begin() + FirstPeak() + rank * kNumMemoryKinds, kNumMemoryKinds, peak.bytes.begin());
  return peak;
}

double TrainingEngine::EvaluateLossSum(const Tensor& samples, int64_t num_sequences) {
  const int64_t micro_batch = config_.train().micro_batch();
  int64_t own = 0;  // sequences of this rank that are not padding: the first ones
  for (int64_t m = 0; m < samples.dim(0); ++m) {
    own += std::clamp<int64_t>(num_sequences - SequenceIndex(m, 0), 0, micro_batch);
  }
  const SlotSchedule schedule(layers_per_stage_, static_cast<int>(samples.dim(0)), /*forward_only=*/true);
  model_->SetSamples(samples, 0, own);
  dispatcher_->SetSchedule(schedule);
  executor_->Run(schedule, -1);
  dispatcher_->SetSchedule(*schedule_);
  double sum = model_->loss_sum();
  mesh_->world().AllReduceSum(Tensor(&sum, DType::kF64, {1}), {.operation = "validation loss"});
  return sum;
}

Tensor TrainingEngine::NextLogits(int32_t token, int64_t position) {
  return model_->Decode(token, position, *experts_);
}

std::vector<DiskTensor> TrainingEngine::DiskTensors() const {
  std::vector<DiskTensor> list;
  const MeshPosition& position = mesh_->position();
  const bool writes_dense = position.replica == 0 && position.data == 0;
  for (const DenseParameter& parameter : model_->parameters().list()) {
    list.push_back({.name = parameter.name,
                    .shape = parameter.shape,
                    .value = model_->parameters().flat_values().Rows(parameter.elements.begin,
                                                                     parameter.elements.size()),
                    .writes = writes_dense});
  }
  for (DiskTensor& tensor : balance_->BiasTensors(LayersOfStage(layers_per_stage_, position.stage))) {
    tensor.writes = writes_dense;
    list.push_back(std::move(tensor));
  }
  for (DiskTensor& tensor : experts_->DiskTensors(experts_->values())) {
    tensor.writes = mesh_->replicas().rank() == 0;
    list.push_back(std::move(tensor));
  }
  return list;
}

std::vector<OptimizerPiece> TrainingEngine::OptimizerPieces() const {
  return optimizer_->Pieces();
}

std::vector<DiskTensor> TrainingEngine::StateTensors() const {
  std::vector<DiskTensor> list = balance_->State();
  for (DiskTensor& tensor : replacer_->State()) list.push_back(std::move(tensor));
  for (DiskTensor& tensor : list) tensor.writes = world_.rank() == 0;
  return list;
}

void TrainingEngine::CollectState() {
  balance_->CollectState();
}
void TrainingEngine::StateLoaded() {
  balance_->StateLoaded();
  replacer_->StateLoaded();
}

}  // namespace unipool
