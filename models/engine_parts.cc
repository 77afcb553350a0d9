#include "models/engine_parts.h"

#include <chrono>

#include "models/memory_plan.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "parallel/shadow_placement.h"
#include "runtime/emulated_communicator.h"
#include "runtime/format.h"

namespace unipool {

namespace {

// The rank's time in seconds: virtual where a cluster is emulated.
WaitClock ClockOf(World& world) {
  if (EmulatedRank* rank = world.emulation) return WaitClock([rank] { return rank->Now(); });
  return WaitClock([] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  });
}

ComputeTypes TypesOfParts(const Config& config, const EngineOptions& options) {
  return options.dtype ? ComputeTypes::Both(*options.dtype) : TypesOfConfig(config);
}

bool IsTraining(const EngineOptions& options) {
  return options.mode == EngineMode::kTrain;
}

int64_t TokensPerMicrobatch(const Config& config) {
  return int64_t{config.train().micro_batch()} * config.model().seq_length();
}

// A received input waits beside those in flight.
int64_t MostMicrobatchesInFlight(const Mesh& mesh) {
  return 2 * mesh.shape().stages + 1;
}

SlotSchedule ScheduleOf(const Config& config, const MeshShape& shape, const std::vector<int>& layers,
                        const EngineOptions& options) {
  return SlotSchedule(layers, MicrobatchesPerRank(config, shape), /*forward_only=*/!IsTraining(options),
                      HeadPlaceOf(config, shape));
}

BalanceOptions BalanceOptionsOf(const Config& config, const Mesh& mesh) {
  return {.balance = config.moe().balance(),
          .scope = config.moe().balance_scope(),
          .coeff = config.moe().balance_coeff(),
          .counts = config.moe().balance_counts(),
          .hinge = config.moe().balance_hinge(),
          .bias_scope = config.moe().bias_scope(),
          .tokens_per_microbatch = TokensPerMicrobatch(config),
          .data_ranks = mesh.shape().data_ranks(),
          .microbatches_per_rank = MicrobatchesPerRank(config, mesh.shape()),
          .microbatches_in_flight = MostMicrobatchesInFlight(mesh)};
}

// Ranks of the pool group that have the layers of this rank's stage.
std::vector<int> SourcesOf(const Mesh& mesh) {
  std::vector<int> ranks;
  for (int rank = 0; rank < mesh.pool().size(); ++rank) {
    if (mesh.StageOfPoolRank(rank) == mesh.position().stage) ranks.push_back(rank);
  }
  return ranks;
}

LanguageModelOptions ModelOptionsOf(const EngineParts& parts, const EngineOptions& options) {
  const int stage = parts.mesh.position().stage;
  const TrainConfig& train = parts.config.train();
  const bool is_training = IsTraining(options);
  const bool is_spread = parts.schedule.head_place() == HeadPlace::kSpread;
  return {.types = TypesOfParts(parts.config, options),
          .micro_batch = train.micro_batch(),
          .max_in_flight = MostMicrobatchesInFlight(parts.mesh),
          .saved_layers = is_training ? MostSavedLayers(parts.schedule, stage) : 0,
          .layers = LayersOfStage(parts.layers_per_stage, stage),
          .is_first = stage == 0,
          .is_last = stage == parts.mesh.shape().stages - 1,
          .head_shares = is_spread ? parts.mesh.shape().stages : 1,
          .head_share = is_spread ? stage : 0,
          .head_tokens = parts.sizes.head_tokens,
          .is_trainable = is_training,
          .recompute_attention = is_training && train.recompute_attention(),
          .device = parts.place.device(),
          .sources = SourcesOf(parts.mesh),
          .rank = parts.mesh.pool().rank()};
}

ExpertPoolOptions PoolOptionsOf(const EngineParts& parts, const EngineOptions& options) {
  const int64_t rows = TokensPerMicrobatch(parts.config) * parts.spec.top_k;
  return {.types = TypesOfParts(parts.config, options),
          .max_rows = parts.mesh.shape().pool() * rows,
          .recompute = parts.config.train().recompute_experts(),
          .weight_grad_slots = parts.sizes.weight_grad_slots,
          .trainable = IsTraining(options),
          .pool = &parts.mesh.pool()};
}

DispatcherOptions DispatcherOptionsOf(const EngineParts& parts, const EngineOptions& options) {
  const bool recompute = parts.config.train().recompute_experts();
  return {
      .row_size = parts.spec.hidden,
      .dtype = TypesOfParts(parts.config, options).activations,
      .max_rows = TokensPerMicrobatch(parts.config) * parts.spec.top_k,
      .kept_columns = IsTraining(options) ? ExpertPool::KeptColumns(parts.spec.expert_width, recompute) : 0,
      .pieces_alone = PiecesAlone(parts.config),
      .bank_slots = IsTraining(options) ? parts.sizes.weight_grad_slots : 1};
}

OptimizerOptions OptimizerOptionsOf(const TrainConfig& train) {
  return {.beta1 = train.beta1(),
          .beta2 = train.beta2(),
          .eps = train.adam_eps(),
          .weight_decay = train.weight_decay(),
          .clip = train.clip()};
}

// As in ShadowCounts.
double ShareOfACopy(const EngineParts& parts, const EngineOptions& options) {
  if (options.shadows_are_free) return 0;
  const double tokens =
      static_cast<double>(parts.config.train().micro_batch()) * parts.config.model().seq_length();
  const double rows = tokens * static_cast<double>(parts.spec.top_k) * parts.mesh.shape().data;
  return CopyShare(rows, parts.config.device() == DeviceType::CUDA);
}

std::optional<Optimizer> MakeOptimizer(EngineParts& parts, const EngineOptions& options) {
  if (!IsTraining(options)) return {};
  return std::optional<Optimizer>(std::in_place, parts.model.parameters(), parts.model.head_parameters(),
                                  parts.experts, parts.spec.experts, parts.mesh,
                                  OptimizerOptionsOf(parts.config.train()), parts.place.stream(),
                                  parts.place.memory());
}

}  // namespace

EngineParts::EngineParts(const Config& config, World& world, const EngineOptions& options)
    : config(config),
      spec(MakeModelSpec(config)),
      place(config, world, options.device),
      mesh(*world.communicator, MeshShapeOf(config.parallel(), world.size()), place.links(),
           options.recorder),
      layers_per_stage(LayersPerStage(config, mesh.shape())),
      schedule(ScheduleOf(config, mesh.shape(), layers_per_stage, options)),
      sizes(IsTraining(options) ? ChooseSizes(config, world, place.device())
                                : DeviceSizes{.head_tokens = HeadTokens(config)}),
      placement(FirstPlacement(spec, config.parallel().placement(), schedule, mesh.shape())
                    .WithRoom(IsTraining(options) ? ShadowsPerRank(config, mesh.shape()) : 0)),
      clock(ClockOf(world)),
      use(config, spec, BalanceOptionsOf(config, mesh), mesh, clock,
          AccumulatorOf(TypesOfParts(config, options).activations), place.stream(), place.memory()),
      model(spec, ModelOptionsOf(*this, options), placement, use, place.stream(), place.memory()),
      experts(spec, placement, mesh.pool().rank(), PoolOptionsOf(*this, options), place.stream(),
              place.memory()),
      dispatcher(mesh, placement, schedule, DispatcherOptionsOf(*this, options), place.stream(),
                 place.memory()),
      executor(mesh, dispatcher, model, experts, LaneOrderOf(config.parallel().lanes()), place.device()),
      optimizer(MakeOptimizer(*this, options)),
      replacer(spec, config.parallel(), mesh, schedule, ShareOfACopy(*this, options), placement, experts,
               optimizer ? &*optimizer : nullptr, place.stream(), place.memory()) {
  executor.set_meter(options.meter);
}

std::string EngineParts::AboutDevice() const {
  std::string text = place.transport();
  if (!LeavesSizesOpen(config)) return text;
  if (config.train().weight_grad_slots() == 0) {
    text += Format(
        "\nweight gradients of %d slots at once, by the memory of the devices (train.weight_grad_slots)",
        sizes.weight_grad_slots);
  }
  if (config.train().head_tokens() == 0) {
    text += Format("\nlogits of %d tokens at once, by the memory of the devices (train.head_tokens)",
                   sizes.head_tokens);
  }
  return text;
}

}  // namespace unipool
