#include "models/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/grouped_gemm.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "kernels/router_forward.h"
#include "kernels/row_deal.h"
#include "kernels/row_order.h"
#include "models/expert_pool.h"
#include "models/layer_saved.h"
#include "models/lock/lock_plan.h"
#include "models/output_head.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "parallel/expert_move.h"
#include "runtime/range.h"

namespace unipool {

int64_t MemoryPlan::total() const {
  return std::accumulate(bytes_.begin(), bytes_.end(), int64_t{0});
}

int64_t MostSavedLayers(const SlotSchedule& schedule, int stage) {
  // A layer's activations begin when the layer below gives its output (the lowest layer's with its input) and
  // end with the layer's backward, whose combine is waited for in the next slot, after that slot's forward
  // half has begun.
  std::set<std::pair<int, int>> alive;
  size_t most = 0;
  LaneWork ending;
  for (int t = 0; t < schedule.num_times(); ++t) {
    for (int u = 0; u < schedule.slots_per_time(); ++u) {
      const LaneWork forward = schedule.Work(Lane::kForward, stage, {t, u});
      if (!forward.idle()) alive.insert({forward.microbatch, forward.layer});
      most = std::max(most, alive.size());
      if (!ending.idle()) alive.erase({ending.microbatch, ending.layer});
      ending = schedule.Work(Lane::kBackward, stage, {t, u});
    }
    if (stage > 0 && schedule.Microbatch(Lane::kForward, stage, t + 1) >= 0) {
      alive.insert({schedule.Microbatch(Lane::kForward, stage, t + 1), 0});
    }
    most = std::max(most, alive.size());
  }
  return static_cast<int64_t>(most);
}

int64_t MostStashedSlots(const SlotSchedule& schedule, const MeshShape& shape, int stage) {
  // Rows of a forward slot stay until the lowest stage that sent some has its gradients computed.
  const int first = shape.span == PoolSpan::kStage ? stage : 0;
  const int last = shape.span == PoolSpan::kStage ? stage : schedule.num_stages() - 1;
  const int n = schedule.slots_per_time();
  std::vector<int> changes(schedule.num_times() * n + 2, 0);
  for (int t = 0; t < schedule.num_times(); ++t) {
    for (int u = 0; u < n; ++u) {
      int last_use = -1;
      for (int s = first; s <= last; ++s) {
        const LaneWork work = schedule.Work(Lane::kForward, s, {t, u});
        if (work.idle()) continue;
        const SlotId slot = schedule.SlotOf(Lane::kBackward, s, work);
        last_use = std::max(last_use, slot.time * n + slot.index);
      }
      if (last_use < 0) continue;
      ++changes[t * n + u];
      --changes[last_use + 1];
    }
  }
  int alive = 0, most = 0;
  for (int change : changes) most = std::max(most, alive += change);
  return most;
}

namespace {

// What the arrays of one rank are made of. Letters: README.md.
struct RankSizes {
  const Config& config;
  ModelSpec spec;
  MeshShape mesh;
  Device device;
  DType dtype;          // of activations; master weights and sums are in its AccumulatorOf
  int64_t item, exact;  // bytes of one element of dtype, and of its AccumulatorOf
  int64_t operand;      // the same of what products read
  SlotSchedule schedule;
  int microbatches;
  int64_t layers;  // of this stage
  bool is_last;    // stage
  int stage;
  int64_t saved_layers, stashed_slots;
  int64_t tokens, rows;      // T and N of one microbatch
  HeldRows held;             // of rows that reach this rank
  int64_t kept;              // ExpertPool::KeptColumns
  int64_t dense_parameters;  // of this rank, with padding between them
  int64_t spread_head;       // of these, the weight of a spread head
  int64_t own_experts;
  int64_t expert_parameters;  // of these
  int64_t shadow_parameters;  // of copies of other ranks' experts
  int64_t shadow_places;      // of all ranks
  int64_t updated_dense;      // dense parameters that this rank's optimizer updates

  const TrainConfig& train() const { return config.train(); }
  int64_t parameters() const { return dense_parameters + expert_parameters; }
  bool has_copies() const { return operand < exact; }            // BF16 beside F32 masters
  bool splits_routers() const { return dtype == DType::kBF16; }  // router.h
};

// Elements between the dense parameters of a stage (DenseParameters::Declare).
int64_t PaddingOf(const ModelSpec& spec, int64_t layers, bool is_last) {
  const auto padding = [](int64_t size) { return (8 - size % 8) % 8; };
  const bool has_scale = spec.has_router && HasSigma(spec.router);
  return (2 * layers + is_last) * padding(spec.hidden) + (has_scale ? layers * padding(1) : 0);
}

// Every rank of the pool group sends its N rows. With even routing an owner gets them in proportion to its
// experts.
int64_t ReceivedRows(const MeshShape& mesh, int64_t rows, int64_t all_experts, int64_t own_experts,
                     double imbalance) {
  const int64_t all_rows = rows * mesh.pool(), even_rows = all_rows * own_experts / all_experts;
  if (own_experts == 0) return 0;
  const double wanted = imbalance * static_cast<double>(even_rows);
  return wanted < static_cast<double>(all_rows) ? std::llround(wanted) : all_rows;
}

RankSizes SizesOf(const Config& config, const MeshShape& mesh, int rank) {
  const ModelSpec spec = MakeModelSpec(config);
  const MeshPosition position = PositionOf(mesh, rank);
  const int data_rank = position.replica * mesh.data + position.data;
  const ParameterCount count = CountParametersOfRank(config, mesh, rank);
  const int64_t layers = LayersPerStage(config, mesh)[position.stage];
  const bool is_last = position.stage == mesh.stages - 1;
  const int64_t tokens = int64_t{config.train().micro_batch()} * spec.seq_length, rows = tokens * spec.top_k;
  const int microbatches = MicrobatchesPerRank(config, mesh);
  const SlotSchedule schedule = TrainingSchedule(config, mesh);
  const ComputeTypes types = TypesOfConfig(config);
  const DType dtype = types.activations;
  const int64_t dense = count.dense() + PaddingOf(spec, layers, is_last);
  const int64_t spread_head = SpreadHeadElements(config, mesh);
  return {.config = config,
          .spec = spec,
          .mesh = mesh,
          .device = DeviceOf(config),
          .dtype = dtype,
          .item = SizeOf(dtype),
          .exact = SizeOf(AccumulatorOf(dtype)),
          .operand = SizeOf(types.products),
          .schedule = schedule,
          .microbatches = microbatches,
          .layers = layers,
          .is_last = is_last,
          .stage = position.stage,
          .saved_layers = MostSavedLayers(schedule, position.stage),
          .stashed_slots = MostStashedSlots(schedule, mesh, position.stage),
          .tokens = tokens,
          .rows = rows,
          .kept = ExpertPool::KeptColumns(spec.expert_width, config.train().recompute_experts()),
          .dense_parameters = dense,
          .spread_head = spread_head,
          .own_experts = EvenPartition(spec.experts, mesh.pool(), rank % mesh.pool()).size(),
          .expert_parameters = count.experts,
          .shadow_parameters = int64_t{ShadowsPerRank(config, mesh)} * 3 * spec.expert_width * spec.hidden,
          .shadow_places = int64_t{ShadowsPerRank(config, mesh)} * mesh.pool(),
          .updated_dense = EvenPartition(dense - spread_head, mesh.data_ranks(), data_rank).size() +
                           EvenPartition(spread_head, mesh.world(), rank).size()};
}

// Master weights, the copies that are computed with, and what the routers' copies lack.
int64_t ParameterBytes(const RankSizes& s) {
  const int64_t routers =
      s.spec.has_router && s.splits_routers() ? s.layers * s.spec.experts * s.spec.hidden : 0;
  return s.parameters() * s.exact + (s.has_copies() ? (s.parameters() + routers) * s.operand : 0) +
         s.shadow_parameters * s.operand;
}

int64_t GradientBytes(const RankSizes& s) {
  return (s.parameters() + s.shadow_parameters) * s.exact;
}

// Both moments of AdamW.
int64_t OptimizerBytes(const RankSizes& s) {
  return 2 * (s.updated_dense + s.expert_parameters) * s.exact;
}

// What layers save, hidden states and their gradients, and the rows of experts with what these keep of them.
int64_t ActivationBytes(const RankSizes& s) {
  const int64_t d = s.spec.hidden;
  const int64_t hidden_states = s.tokens * d * (s.microbatches > 1 || !s.is_last ? 3 : 2);
  return s.saved_layers *
             LayerSaved::Bytes(s.spec, s.tokens, s.dtype, !s.train().recompute_attention(), s.shadow_places) +
         s.item * (hidden_states + s.held.stashed * d + s.held.kept * s.kept + s.held.joined * (d + s.kept) +
                   s.held.backward * d);
}

// On a device sums over ranks take memory that is counted: of dense gradients, of the experts' where there
// are copies, and of the squared norms.
int64_t SumStagingBytes(const RankSizes& s) {
  if (s.device == Device::kCpu) return 0;
  const auto staging = [](int64_t elements, int64_t bytes, int ranks) {
    return Communicator::SumStagingBytes(elements, bytes, ranks, Communicator::kDeviceSumRoundBytes);
  };
  // Gate and up are reduced first, and are the larger array.
  const int64_t gate_up = s.expert_parameters / 3 * 2;
  return staging(s.dense_parameters - s.spread_head, s.exact, s.mesh.data_ranks()) +
         (s.spread_head > 0 ? staging(s.spread_head, s.exact, s.mesh.world()) : 0) +
         (gate_up > 0 ? staging(gate_up, s.exact, s.mesh.world() / s.mesh.pool()) : 0) +
         staging(1 + s.spec.experts, 8, s.mesh.world());
}

// What experts are staged in that move between steps (parallel/expert_move.h).
int64_t MoveBytes(const RankSizes& s) {
  if (!MovesExperts(s.config, s.mesh)) return 0;
  const int64_t gate_up = 2 * s.spec.expert_width * s.spec.hidden * s.exact;
  return s.own_experts * std::min(gate_up, kMoveStagingBytes / std::max<int64_t>(1, s.own_experts));
}

// Returned rows. Between ranks also what both lanes send and receive, and what experts answer.
int64_t ExchangeBytes(const RankSizes& s) {
  const bool is_alone = s.mesh.pool() == 1;
  const int64_t of_others = s.held.forward_wire + s.held.backward_wire;
  const int64_t rows = s.rows + (is_alone ? 0 : 2 * s.rows + of_others + s.held.batch);
  // Gradients of shadows that have come and are not added yet, at most all shadows of each other rank: places
  // as wide as gate and up, of which the last holds down.
  const int64_t down = s.spec.expert_width * s.spec.hidden * s.exact;
  const int64_t of_rank = (4 * s.shadow_places / s.mesh.pool() - 1) * down;
  const int64_t shadows =
      s.shadow_places > 0 ? std::min(ShadowSync::kStagingBytes, (s.mesh.pool() - 1) * of_rank) : 0;
  return s.item * s.spec.hidden * rows + SumStagingBytes(s) + shadows + MoveBytes(s);
}

// The most that one kernel takes of the stream's scratch memory.
int64_t KernelScratchBytes(const RankSizes& s) {
  const Device device = s.device;
  const int64_t width = s.spec.hidden, experts = s.spec.experts;
  return std::max({AttentionScratchBytes(device, s.spec.attention(s.train().micro_batch()), s.dtype),
                   EmbeddingBackwardScratchBytes(device, s.tokens, width),
                   RmsNormBackwardScratchBytes(device, s.tokens, width),
                   RouterForwardScratchBytes(device, s.dtype, s.tokens, experts),
                   RouterScoresBackwardScratchBytes(device, s.tokens, experts),
                   OrderRowsScratchBytes(device, s.rows, experts),
                   s.shadow_places > 0
                       ? DealRowsScratchBytes(experts, experts + s.shadow_places, experts + s.shadow_places)
                       : 0,
                   GroupedGemmScratchBytes(device, experts), AddSumScratchBytes(device)});
}

// Of experts: gate and up where they are not kept, the activation, and the backward's gradients. What is left
// for weight gradients is dgate_up and the activation of one slot, or the banks of several.
int64_t ExpertScratchBytes(const RankSizes& s) {
  const int64_t d = s.spec.hidden, f = s.spec.expert_width;
  const bool has_banks = WeightGradSlots(s.config) > 1;
  const int64_t activation =
      has_banks ? s.held.forward_piece : std::max(s.held.forward_piece, s.held.backward);
  const int64_t for_weights =
      has_banks ? s.held.banked * WeightGradBanks::ColumnsPerRow(d, f) : s.held.backward * 2 * f;
  return s.item * f * (2 * s.held.unkept_piece + s.held.backward_piece) +
         s.operand * (activation * f + for_weights);
}

// Of one layer's attention and router, and of the rotary angles.
int64_t LayerScratchBytes(const RankSizes& s) {
  const ModelSpec& spec = s.spec;
  const int64_t attention = s.item * s.tokens * (2 * spec.hidden + spec.qkv_size());
  const int64_t internals =
      s.train().recompute_attention() ? AttentionLayer::InternalBytes(spec, s.tokens, s.dtype) : 0;
  const int64_t split_gradient = s.splits_routers() && spec.has_router ? 2 * spec.experts * s.item : 0;
  const int64_t router = (spec.experts + spec.top_k) * s.exact + split_gradient;
  return attention + internals + s.tokens * (spec.hidden * s.item + router) +
         s.exact * spec.seq_length * spec.head_size();
}

// Of the head: the norm's output and its gradient on the last stage, of a spread head a share of both on the
// others; and logits.
int64_t HeadScratchBytes(const RankSizes& s) {
  const bool is_spread = s.spread_head > 0;
  if (!s.is_last && !is_spread) return 0;
  const int64_t share =
      EvenPartition(s.tokens, is_spread ? s.mesh.stages : 1, is_spread ? s.stage : 0).size();
  const int64_t rows = s.is_last ? s.tokens : share;
  // Tasks are scored by a head that is not spread.
  const int64_t with_logits = s.is_last && s.train().eval_tasks_size() > 0 ? s.tokens : share;
  return rows * 2 * s.spec.hidden * s.item + (s.is_last ? s.tokens * s.exact : 0) +
         OutputHead::ChunkTokens(with_logits, HeadTokens(s.config), s.device) * s.spec.padded_vocab * s.item;
}

// Sums and counts of balancing; token ids, targets and losses; squared norms and other single numbers.
int64_t StatisticsBytes(const RankSizes& s) {
  const ModelSpec& spec = s.spec;
  const int64_t experts = spec.experts, groups = spec.num_balance_groups * experts;
  const int64_t balance =
      s.exact * (2 * spec.layers * experts + groups + experts) + 8 * spec.layers * experts;
  // A lock validates where it freezes.
  const bool validates = s.train().eval_every() > 0 || HasLock(s.config);
  const int64_t microbatches =
      validates ? std::max<int64_t>(s.microbatches, kPassMicrobatches) : s.microbatches;
  const int64_t tokens = s.tokens * (microbatches * (4 + 4) + 8);
  const int64_t deals =
      s.shadow_places > 0 ? 4 * (experts + 1 + (experts + s.shadow_places) * (1 + s.layers)) : 0;
  const int64_t numbers = deals + 8 + 4 * experts + 8 * (2 + experts) + (s.device == Device::kCuda ? 16 : 0);
  return balance + tokens + numbers;
}

int64_t ScratchBytes(const RankSizes& s) {
  return KernelScratchBytes(s) + ExpertScratchBytes(s) + LayerScratchBytes(s) + HeadScratchBytes(s) +
         StatisticsBytes(s);
}

// Rows of a rank that gets `received` in every slot of both lanes, of each source as many.
HeldRows HeldAlways(const RankSizes& s, int64_t received) {
  int num_backward_slots = 0;
  for (int t = 0; t < s.schedule.num_times(); ++t) {
    for (int u = 0; u < s.schedule.slots_per_time(); ++u)
      num_backward_slots += s.schedule.AnyWork(Lane::kBackward, {t, u});
  }
  const int64_t of_others = received - received / s.mesh.pool();
  return {.stashed = s.stashed_slots * received,
          .kept = s.stashed_slots * received,
          .joined = s.mesh.pool() > s.mesh.data ? received : 0,
          .batch = received,
          .backward = received,
          .forward_wire = of_others,
          .backward_wire = of_others,
          .forward_piece = received,
          .backward_piece = received,
          .unkept_piece = received,  // of the loss that judges a checkpoint, which any run may be asked for
          .banked = std::min(2 * WeightGradSlots(s.config), num_backward_slots) * received};
}

// With all choices made, and without the constants of routers, which cost time and no memory.
Config ForSizes(const Config& config, const MeshShape& shape) {
  Config with = WithChoices(config, shape);
  with.mutable_moe()->set_router_constant(1);
  return with;
}

MemoryPlan PlanOf(const RankSizes& sizes) {
  MemoryPlan plan;
  plan[MemoryKind::kParameters] = ParameterBytes(sizes);
  plan[MemoryKind::kGradients] = GradientBytes(sizes);
  plan[MemoryKind::kOptimizer] = OptimizerBytes(sizes);
  plan[MemoryKind::kActivations] = ActivationBytes(sizes);
  plan[MemoryKind::kExchange] = ExchangeBytes(sizes);
  plan[MemoryKind::kScratch] = ScratchBytes(sizes);
  return plan;
}

}  // namespace

int64_t DenseElements(const Config& config, const MeshShape& shape, int stage) {
  Config sizes = config;
  sizes.mutable_moe()->set_router_constant(1);
  const int64_t layers = LayersPerStage(config, shape)[stage];
  const ParameterCount count = CountParametersOfRank(config, shape, RankOf(shape, {.stage = stage}));
  return count.dense() - SpreadHeadElements(config, shape) +
         PaddingOf(MakeModelSpec(sizes), layers, stage == shape.stages - 1);
}

int64_t SpreadHeadElements(const Config& config, const MeshShape& shape) {
  if (HeadPlaceOf(config, shape) == HeadPlace::kLastStage) return 0;
  return PaddedVocab(config.model()) * config.model().hidden();
}

MemoryPlan PlanMemory(const Config& original, const MeshShape& shape, int rank, double imbalance) {
  const Config config = ForSizes(original, shape);
  RankSizes sizes = SizesOf(config, shape, rank);
  sizes.held =
      HeldAlways(sizes, ReceivedRows(shape, sizes.rows, sizes.spec.experts, sizes.own_experts, imbalance));
  return PlanOf(sizes);
}

MemoryPlan PlanMemory(const Config& original, const MeshShape& shape, int rank, const HeldRows& rows) {
  const Config config = ForSizes(original, shape);
  RankSizes sizes = SizesOf(config, shape, rank);
  sizes.held = rows;
  return PlanOf(sizes);
}

}  // namespace unipool
