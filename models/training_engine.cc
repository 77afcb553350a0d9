#include "models/training_engine.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "kernels/reduce.h"

namespace unipool {

namespace {

// Numbers the copies of the pool.
std::vector<int> PoolOfRank(const MeshShape& shape) {
  std::vector<int> pools;
  for (int rank = 0; rank < shape.world(); ++rank) {
    const MeshPosition p = PositionOf(shape, rank);
    pools.push_back(shape.span == PoolSpan::kReplica ? p.replica : p.replica * shape.stages + p.stage);
  }
  return pools;
}

int NumSlots(const SlotSchedule& schedule) {
  return schedule.num_times() * schedule.slots_per_time();
}

std::optional<TrafficStepSums> TrafficSumsOf(const EngineParts& parts, int rank,
                                             const TrafficRecorder* recorder) {
  if (!recorder || !recorder->options().sums_steps) return {};
  return std::optional<TrafficStepSums>(std::in_place, rank, PoolOfRank(parts.mesh.shape()),
                                        NumSlots(parts.schedule));
}

}  // namespace

TrainingEngine::TrainingEngine(const Config& config, World& world, const EngineOptions& options)
    : world_(world),
      recorder_(options.recorder),
      meter_(options.meter),
      parts_(config, world, options),
      state_(parts_),
      reader_(parts_.place.device(), 2 + parts_.spec.layers * parts_.spec.experts),
      traffic_(TrafficSumsOf(parts_, world.rank(), recorder_)),
      sums_(parts_.spec, world.size(), traffic_ ? traffic_->size() : 0, parts_.use.lock.has_value()) {
  if (recorder_) {
    recorder_->SetSizes({.layers = static_cast<int>(parts_.spec.layers),
                         .slots_per_time = parts_.schedule.slots_per_time(),
                         .num_slots = NumSlots(parts_.schedule)});
  }
  if (!parts_.place.device()) return;
  totals_ = Buffer::Allocate(parts_.place.memory(), MemoryKind::kScratch, 2 * 8);
}

TrainingEngine::~TrainingEngine() {
  if (DeviceContext* device = parts_.place.device()) device->Drain();  // nothing may use what goes now
}

int64_t TrainingEngine::SequenceIndex(int64_t microbatch, int64_t i) const {
  return SequenceIndex(microbatch, i, parts_.config.train().micro_batch());
}

int64_t TrainingEngine::SequenceIndex(int64_t microbatch, int64_t i, int64_t per_microbatch) const {
  return (microbatch * data_ranks() + parts_.mesh.data_rank()) * per_microbatch + i;
}

StepReport TrainingEngine::TrainStep(int64_t step, double lr, const Tensor& samples) {
  ForwardBackward(step, samples);
  return Update(step, lr);
}

double TrainingEngine::TokensPerStep() const {
  return static_cast<double>(parts_.config.train().global_batch() * parts_.spec.seq_length);
}

template <class Work>
auto TrainingEngine::OrEndJob(Work&& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    world_.communicator->Abort(kUserErrorExitCode, Format("error: rank %d: %s", world_.rank(), error.what()));
    std::abort();  // never reached; the compiler does not see that
  }
}

void TrainingEngine::ForwardBackward(int64_t step, const Tensor& samples) {
  OrEndJob([&] { RunSlots(step, samples); });
}

StepReport TrainingEngine::Update(int64_t step, double lr, std::span<double> riders) {
  CHECK_LE(riders.size(), sums_.riders.size());
  const StepReport report = OrEndJob([&] { return ReduceAndApply(step, lr, riders); });
  std::copy_n(sums_.riders.begin(), riders.size(), riders.begin());
  return report;
}

double TrainingEngine::EvaluateLossSum(const Tensor& samples, int64_t num_sequences,
                                       std::span<double> riders) {
  return OrEndJob([&] { return EvaluateSlots(samples, num_sequences, riders); });
}

void TrainingEngine::RunSlots(int64_t step, const Tensor& samples) {
  CHECK(parts_.optimizer) << "an engine for evaluation cannot train";
  CHECK_EQ(samples.dim(0), microbatches_per_rank());
  parts_.clock.Reset();
  parts_.optimizer->ClearGrads();
  parts_.dispatcher.ClearUsedExperts();
  parts_.use.BeginStep(step);
  parts_.model.SetSamples(samples, 1 / TokensPerStep(), samples.dim(0) * samples.dim(1));
  parts_.experts.StartShadows(step);
  parts_.executor.Run(parts_.schedule, step);
}

// Loss, squared gradients (dense and of each expert), loads and each rank's peak memory travel in one
// exchange of the host. On a device the squares are summed there, so that the update need not wait for it.
StepReport TrainingEngine::ReduceAndApply(int64_t step, double lr, std::span<const double> riders) {
  DeviceContext* const device = parts_.place.device();
  const std::string name = device ? Format("update %d", step) : "";
  const DeviceRange range(device, name.c_str());
  sums_.Clear();
  std::copy(riders.begin(), riders.end(), sums_.riders.begin());
  const Tensor own_numbers = parts_.optimizer->ReduceGradients(step, parts_.model.loss_sum());
  if (device) {
    ApplyOnDevice(own_numbers, step, lr);
    return ReduceSums(step);
  }
  sums_.loss = parts_.model.loss_sum().as<double>()[0];
  std::copy_n(own_numbers.as<double>(), sums_.grad_squares.size(), sums_.grad_squares.begin());
  std::copy_n(parts_.use.importance.all().as<double>(), sums_.importance.size(), sums_.importance.begin());
  const StepReport report = ReduceSums(step);
  if (report.is_skipped) return report;
  if (meter_) meter_->Begin();
  parts_.optimizer->Apply(step, lr, report.grad_norm);
  if (meter_) meter_->End(WorkKind::kOptimizer, static_cast<double>(parts_.optimizer->num_updated()), {});
  return report;
}

void TrainingEngine::ApplyOnDevice(const Tensor& own_numbers, int64_t step, double lr) {
  Stream& stream = parts_.place.stream();
  parts_.mesh.device_world().AllReduceSum(own_numbers, {.operation = "squared gradients", .step = step});
  const int64_t num_squares = own_numbers.rows() - 1;
  const Tensor totals = totals_.View(DType::kF64, {2}), total_squares = totals.Rows(0, 1);
  Fill(stream, total_squares, 0);
  AddSum(stream, own_numbers.Rows(0, num_squares), total_squares);
  Copy(stream, own_numbers.Rows(num_squares, 1), totals.Rows(1, 1));
  reader_.Start({parts_.model.loss_sum(), total_squares, parts_.use.importance.all()});
  parts_.optimizer->Apply(step, lr, totals);
  const std::span<const double> numbers =
      reader_.Finish({.operation = "loss and gradient norm", .step = step});
  sums_.loss = numbers[0];
  std::copy_n(numbers.begin() + 2, sums_.importance.size(), sums_.importance.begin());
  if (world_.rank() == 0) sums_.grad_squares[0] = numbers[1];  // the sum of all ranks already
}

StepReport TrainingEngine::ReduceSums(int64_t step) {
  parts_.use.AddTo(sums_);
  const UsedExperts& used = parts_.dispatcher.used_experts();
  sums_.used_experts = used.shares;
  sums_.expert_batches = used.batches;
  if (traffic_) {
    traffic_->Fill(recorder_->tally(), recorder_->rows_received(), step, sums_.traffic);
    recorder_->tally().ClearStep();
  }
  const MemoryParts& peak = parts_.place.memory().parts_at_peak();
  std::copy(peak.begin(), peak.end(), sums_.memory_of(world_.rank()).begin());
  sums_.SetRowsOf(world_.rank(), parts_.dispatcher.held_rows());
  parts_.clock.Time([&] { sums_.Reduce(parts_.mesh.world(), step); });
  StepReport report{.is_skipped = !sums_.AreFinite()};
  report.load = parts_.use.EndStep(sums_);
  if (traffic_) report.traffic = traffic_->Read(sums_.traffic);
  report.load.seconds = parts_.clock.seconds();
  if (sums_.expert_batches > 0) report.used_experts = sums_.used_experts / sums_.expert_batches;
  report.loss = sums_.loss / TokensPerStep();
  report.grad_norm = std::sqrt(std::accumulate(sums_.grad_squares.begin(), sums_.grad_squares.end(), 0.0));
  for (int rank = 0; rank < world_.size(); ++rank) {
    const MemoryPeak of_rank = MemoryOfRank(rank);
    if (of_rank.total() > report.memory.total()) report.memory = of_rank;
  }
  if (!report.is_skipped) parts_.replacer.AddStep(parts_.use.statistics.step_counts());
  return report;
}

MemoryPeak TrainingEngine::MemoryOfRank(int rank) const {
  MemoryPeak peak{.rank = rank, .rows = sums_.RowsOf(rank)};
  const std::span<const double> bytes = sums_.memory_of(rank);
  std::copy(bytes.begin(), bytes.end(), peak.bytes.begin());
  return peak;
}

// Rows of a slot differ from their mean over the steps that were counted.
constexpr double kRoomForRows = 1.25;

std::optional<PlacementReport> TrainingEngine::ReplaceExpertsIfDue(int64_t steps_done) {
  const std::optional<PlacementReport> report =
      parts_.replacer.ReplaceIfDue(steps_done, parts_.use.lock ? &*parts_.use.lock : nullptr);
  if (!report) return {};
  const int64_t forward = std::llround(kRoomForRows * report->rows.forward);
  const int64_t backward = std::llround(kRoomForRows * report->rows.backward);
  parts_.dispatcher.MakeRoom(forward, backward);
  parts_.experts.MakeRoom(std::max(forward, backward));
  return report;
}

double TrainingEngine::EvaluateSlots(const Tensor& samples, int64_t num_sequences, std::span<double> riders) {
  const int64_t micro_batch = samples.dim(1);
  int64_t own = 0;  // sequences of this rank that are not padding: the first ones
  for (int64_t m = 0; m < samples.dim(0); ++m) {
    own += std::clamp<int64_t>(num_sequences - SequenceIndex(m, 0, micro_batch), 0, micro_batch);
  }
  if (parts_.use.lock) parts_.use.lock->BeginPass(own / micro_batch);
  // A scorer wants the logits of a microbatch in one place.
  const HeadPlace head_place =
      parts_.model.has_scorer() ? HeadPlace::kLastStage : parts_.schedule.head_place();
  const SlotSchedule schedule(parts_.layers_per_stage, static_cast<int>(samples.dim(0)),
                              /*forward_only=*/true, head_place);
  parts_.model.SetSamples(samples, 0, own);
  parts_.dispatcher.SetSchedule(schedule);
  parts_.experts.StartShadows(-1);
  parts_.executor.Run(schedule, -1);
  parts_.dispatcher.SetSchedule(parts_.schedule);
  reader_.Start({parts_.model.loss_sum()});
  std::vector<double> sums{reader_.Finish({.operation = "validation loss"})[0]};
  sums.insert(sums.end(), riders.begin(), riders.end());
  parts_.mesh.world().AllReduceSum(Tensor(sums.data(), DType::kF64, {static_cast<int64_t>(sums.size())}),
                                   {.operation = "validation loss"});
  std::copy(sums.begin() + 1, sums.end(), riders.begin());
  return sums[0];
}

}  // namespace unipool
