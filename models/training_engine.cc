#include "models/training_engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "kernels/cuda_context.h"
#include "kernels/reduce.h"
#include "models/memory_plan.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/emulated_communicator.h"

namespace unipool {

namespace {

constexpr int kMostNumbers = 2;  // that the host reads at once

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
      dtype_(options.dtype.value_or(DTypeOfConfig(config))),
      own_device_(config.device() == DeviceType::CUDA && !options.device ? MakeCudaContext(world.local_rank)
                                                                         : nullptr),
      device_(own_device_                           ? own_device_.get()
              : config.device() == DeviceType::CUDA ? options.device
                                                    : nullptr),
      device_memory_(device_),
      memory_(device_ ? &device_memory_ : world.memory),
      mirror_(device_) {
  OpenDevice();
  const MeshShape shape = MeshShapeOf(config.parallel(), world.size());
  const TrainConfig& train = config.train();
  const bool is_training = options.mode == EngineMode::kTrain;
  mesh_ = std::make_unique<Mesh>(*world.communicator, shape, links_.get());
  microbatches_per_rank_ = train.global_batch() / (train.micro_batch() * shape.data_ranks());
  const int64_t tokens = train.micro_batch() * spec_.seq_length;
  const int64_t max_in_flight = 2 * shape.stages + 1;  // a received input waits beside those in flight
  MemoryMeter& memory = *memory_;
  Stream& stream = *stream_;

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
                                           *mesh_, AccumulatorOf(dtype_), stream, memory);
  const int stage = mesh_->position().stage;
  model_ = std::make_unique<LanguageModel>(
      spec_,
      LanguageModelOptions{.dtype = dtype_,
                           .micro_batch = train.micro_batch(),
                           .max_in_flight = max_in_flight,
                           .saved_layers = is_training ? MostSavedLayers(*schedule_, stage) : 0,
                           .layers = LayersOfStage(layers_per_stage_, stage),
                           .is_first = stage == 0,
                           .is_last = stage == shape.stages - 1,
                           .is_trainable = is_training,
                           .recompute_attention = is_training && train.recompute_attention(),
                           .device = device_},
      placement_, *balance_, stream, memory);
  experts_ = std::make_unique<ExpertPool>(spec_, placement_, mesh_->pool().rank(),
                                          ExpertPoolOptions{.dtype = dtype_,
                                                            .max_rows = shape.pool() * tokens * spec_.top_k,
                                                            .recompute = train.recompute_experts(),
                                                            .weight_grad_slots = WeightGradSlots(config),
                                                            .trainable = is_training},
                                          stream, memory);
  dispatcher_ = std::make_unique<TokenDispatcher>(
      *mesh_, placement_, *schedule_,
      DispatcherOptions{
          .row_size = spec_.hidden,
          .dtype = dtype_,
          .max_rows = tokens * spec_.top_k,
          .kept_columns = is_training ? ExpertPool::KeptColumns(spec_, train.recompute_experts()) : 0},
      stream, memory);
  executor_ = std::make_unique<SlotExecutor>(*mesh_, *dispatcher_, *model_, *experts_,
                                             LaneOrderOf(config.parallel().lanes()), device_);
  if (is_training) {
    optimizer_ = std::make_unique<Optimizer>(model_->parameters(), *experts_, spec_.experts, *mesh_,
                                             OptimizerOptions{.beta1 = train.beta1(),
                                                              .beta2 = train.beta2(),
                                                              .eps = train.adam_eps(),
                                                              .weight_decay = train.weight_decay(),
                                                              .clip = train.clip()},
                                             stream, memory);
  }
  replacer_ = std::make_unique<ExpertReplacer>(spec_, config.parallel(), *mesh_, *schedule_, placement_,
                                               *experts_, optimizer_.get(), stream, memory);
  InitializeWeights();
}

TrainingEngine::~TrainingEngine() {
  if (!device_) return;
  device_->Drain();  // nothing may use what goes now
  device_->FreePinned(read_numbers_);
}

void TrainingEngine::OpenDevice() {
  host_numbers_.resize(kMostNumbers);
  read_numbers_ = host_numbers_.data();
  if (!device_) {
    stream_.emplace(*memory_);
    return;
  }
  stream_.emplace(
      *memory_,
      CudaQueue{.stream = device_->queue(DeviceQueue::kCompute), .blas = device_->blas(), .memory = device_});
  ChosenLinks chosen = MakeDeviceLinks(
      {.requested = TransportKindOf(config_.parallel().transport()),
       .device_id = device_->id(),
       .device_name = device_->name(),
       .timeout = std::chrono::milliseconds(std::llround(1000 * config_.parallel().watchdog_seconds()))},
      world_, {.context = *device_, .compute = *stream_, .memory = *memory_});
  links_ = std::move(chosen.links);
  transport_ = chosen.choice.why;
  total_squares_ = Buffer::Allocate(*memory_, MemoryKind::kScratch, 8);
  read_numbers_ = static_cast<double*>(device_->AllocatePinned(kMostNumbers * 8));
  numbers_read_ = device_->MakeEvent();
}

void TrainingEngine::InitializeWeights() {
  mirror_.Add(model_->parameters().flat_values());
  mirror_.Add(experts_->flat_values());
  if (optimizer_) mirror_.Add(optimizer_->flat_moments());
  const uint64_t seed = config_.train().seed();
  model_->parameters().Initialize(seed, mirror_.HostOf(model_->parameters().flat_values()));
  std::vector<DiskTensor> experts = experts_->DiskTensors(experts_->values());
  for (DiskTensor& tensor : experts) tensor.value = mirror_.HostOf(tensor.value);
  experts_->Initialize(seed, experts);
  WeightsLoaded();
}

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

template <class Work>
auto TrainingEngine::OrEndJob(Work&& work) {
  try {
    return work();
  } catch (const UserError& error) {
    world_.communicator->Abort(kUserErrorExitCode, Format("error: rank %d: %s", world_.rank(), error.what()));
    std::abort();  // never reached; the compiler does not see that
  }
}

void TrainingEngine::ForwardBackward(int64_t step, const Tensor& samples) {
  OrEndJob([&] { RunSlots(step, samples); });
}

StepReport TrainingEngine::Update(int64_t step, double lr) {
  return OrEndJob([&] { return ReduceAndApply(step, lr); });
}

double TrainingEngine::EvaluateLossSum(const Tensor& samples, int64_t num_sequences) {
  return OrEndJob([&] { return EvaluateSlots(samples, num_sequences); });
}

void TrainingEngine::RunSlots(int64_t step, const Tensor& samples) {
  CHECK(optimizer_) << "an engine for evaluation cannot train";
  CHECK_EQ(samples.dim(0), microbatches_per_rank_);
  optimizer_->ClearGrads();
  balance_->BeginStep(step);
  model_->SetSamples(samples, 1 / TokensPerStep(), samples.dim(0) * samples.dim(1));
  executor_->Run(*schedule_, step);
}

StepReport TrainingEngine::ReduceAndApply(int64_t step, double lr) {
  char name[32] = "";
  if (device_) std::snprintf(name, sizeof(name), "update %ld", static_cast<long>(step));
  const DeviceRange range(device_, name);
  // Loss, squared gradients (dense and of each expert), loads and each rank's peak memory travel in one
  // exchange of the host. On a device the squares are summed there, so that the update need not wait for it.
  sums_.assign(FirstPeak() + world_.size() * kNumMemoryKinds, 0);
  const std::span<double> squares(sums_.data() + 1, 1 + spec_.experts);
  const Tensor own_squares = optimizer_->ReduceGradients(step);
  if (device_) {
    const Tensor total = SumSquaresOnDevice(own_squares, step);
    StartReading({model_->loss_sum(), total});
    optimizer_->Apply(step, lr, total);
    const std::span<const double> numbers = Read({.operation = "loss and gradient norm", .step = step});
    sums_[0] = numbers[0];
    if (world_.rank() == 0) squares[0] = numbers[1];
  } else {
    sums_[0] = model_->loss_sum().as<double>()[0];
    std::copy_n(own_squares.as<double>(), squares.size(), squares.begin());
  }
  std::copy_n(memory_->parts_at_peak().begin(), kNumMemoryKinds,
              sums_.begin() + FirstPeak() + world_.rank() * kNumMemoryKinds);
  StepReport report;
  report.load = balance_->EndStep(sums_);
  report.loss = sums_[0] / TokensPerStep();
  report.grad_norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
  for (int rank = 0; rank < world_.size(); ++rank) {
    const MemoryPeak peak = MemoryOfRank(rank);
    if (peak.total() > report.memory.total()) report.memory = peak;
  }
  if (!device_) optimizer_->Apply(step, lr, report.grad_norm);
  replacer_->AddStep(balance_->step_counts());
  return report;
}

Tensor TrainingEngine::SumSquaresOnDevice(const Tensor& squares, int64_t step) {
  mesh_->device_world().AllReduceSum(squares, {.operation = "squared gradients", .step = step});
  const Tensor total = total_squares_.View(DType::kF64, {1});
  Fill(*stream_, total, 0);
  AddSum(*stream_, squares, total);
  return total;
}

void TrainingEngine::StartReading(std::initializer_list<Tensor> numbers) {
  CHECK_LE(numbers.size(), size_t{kMostNumbers});
  int64_t i = 0;
  for (const Tensor& number : numbers) {
    if (device_) {
      device_->Copy(DeviceQueue::kCompute, read_numbers_ + i++, number.data, 8);
    } else {
      read_numbers_[i++] = number.as<double>()[0];
    }
  }
  if (device_) device_->Record(numbers_read_, DeviceQueue::kCompute);
}

std::span<const double> TrainingEngine::Read(const ExchangeLabel& label) {
  if (device_) device_->WaitOnHost(numbers_read_, label);
  return {read_numbers_, kMostNumbers};
}

std::optional<PlacementReport> TrainingEngine::ReplaceExpertsIfDue(int64_t steps_done) {
  return replacer_->ReplaceIfDue(steps_done);
}

MemoryPeak TrainingEngine::MemoryOfRank(int rank) const {
  MemoryPeak peak{.rank = rank};
  std::copy_n(sums_.begin() + FirstPeak() + rank * kNumMemoryKinds, kNumMemoryKinds, peak.bytes.begin());
  return peak;
}

double TrainingEngine::EvaluateSlots(const Tensor& samples, int64_t num_sequences) {
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
  StartReading({model_->loss_sum()});
  double sum = Read({.operation = "validation loss"})[0];
  mesh_->world().AllReduceSum(Tensor(&sum, DType::kF64, {1}), {.operation = "validation loss"});
  return sum;
}

Tensor TrainingEngine::NextLogits(int32_t token, int64_t position) {
  const Tensor logits = model_->Decode(token, position, *experts_);
  if (!device_) return logits;
  const DType exact = AccumulatorOf(dtype_);
  if (decoded_.max_bytes() == 0) {
    decoded_ = Buffer::Allocate(*memory_, MemoryKind::kScratch, logits.size() * SizeOf(exact));
    logits_.resize(logits.size() * SizeOf(exact));
  }
  const Tensor converted = decoded_.View(exact, {1, logits.size()});
  Copy(*stream_, logits, converted);
  device_->Download(logits_.data(), converted.data, converted.bytes());
  return Tensor(logits_.data(), exact, {1, logits.size()});
}

std::vector<DiskTensor> TrainingEngine::DiskTensors() const {
  std::vector<DiskTensor> list;
  const MeshPosition& position = mesh_->position();
  const bool writes_dense = position.replica == 0 && position.data == 0;
  for (const DenseParameter& parameter : model_->parameters().list()) {
    list.push_back({.name = parameter.name,
                    .shape = parameter.shape,
                    .value = mirror_.HostOf(model_->parameters().flat_values().Rows(
                        parameter.elements.begin, parameter.elements.size())),
                    .writes = writes_dense});
  }
  for (DiskTensor& tensor : balance_->BiasTensors(LayersOfStage(layers_per_stage_, position.stage))) {
    tensor.writes = writes_dense;
    list.push_back(std::move(tensor));
  }
  for (DiskTensor& tensor : experts_->DiskTensors(experts_->values())) {
    tensor.value = mirror_.HostOf(tensor.value);
    tensor.writes = mesh_->replicas().rank() == 0;
    list.push_back(std::move(tensor));
  }
  return list;
}

std::vector<OptimizerPiece> TrainingEngine::OptimizerPieces() const {
  std::vector<OptimizerPiece> pieces = optimizer_->Pieces();
  for (OptimizerPiece& piece : pieces) {
    piece.first_moment = mirror_.HostOf(piece.first_moment);
    piece.second_moment = mirror_.HostOf(piece.second_moment);
  }
  return pieces;
}

std::vector<DiskTensor> TrainingEngine::StateTensors() const {
  std::vector<DiskTensor> list = balance_->State();
  for (DiskTensor& tensor : replacer_->State()) list.push_back(std::move(tensor));
  for (DiskTensor& tensor : list) tensor.writes = world_.rank() == 0;
  return list;
}

void TrainingEngine::CollectState() {
  balance_->CollectState();
  mirror_.Download();
}
void TrainingEngine::WeightsLoaded() {
  mirror_.Upload();
  model_->parameters().RefreshCopies(*stream_);
  experts_->RefreshCopies();
  balance_->SendBias();
}
void TrainingEngine::StateLoaded() {
  WeightsLoaded();
  balance_->StateLoaded();
  replacer_->StateLoaded();
}

}  // namespace unipool
