#include "models/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "models/expert_pool.h"
#include "models/layer_saved.h"
#include "models/output_head.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/range.h"

namespace unipool {

int64_t MemoryPlan::total() const {
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
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

// Elements between the dense parameters of a stage (DenseParameters::Declare).
int64_t PaddingOf(const ModelSpec& spec, int64_t layers, bool is_last) {
  const auto padding = [](int64_t size) { return (8 - size % 8) % 8; };
  const bool has_scale = spec.has_router && spec.router == RouterKind::kNorm;
  return (2 * layers + is_last) * padding(spec.hidden) + (has_scale ? layers * padding(1) : 0);
}

// On a device sums over ranks take memory that is counted: of dense gradients, of the experts' where there
// are copies, and of the squared norms.
int64_t SumStaging(const ModelSpec& spec, const MeshShape& shape, const ParameterCount& count,
                   int64_t parameters, int64_t item) {
  const auto staging = [](int64_t elements, int64_t bytes, int ranks) {
    return Communicator::SumStagingBytes(elements, bytes, ranks, Communicator::kDeviceSumRoundBytes);
  };
  const int64_t gate_up = count.experts / 3 * 2;  // gate and up are reduced first, and are the larger array
  return staging(parameters - count.experts, item, shape.data_ranks()) +
         (gate_up > 0 ? staging(gate_up, item, shape.world() / shape.pool()) : 0) +
         staging(1 + spec.experts, 8, shape.world());
}

// The most that one kernel takes of the stream's scratch memory: as their headers and sources say.
int64_t KernelScratch(const ModelSpec& spec, int64_t micro_batch, Device device) {
  if (device == Device::kCpu) return AttentionScratchBytes(spec.attention(1), DType::kF32);
  const AttentionShape shape = spec.attention(micro_batch);
  const int64_t tokens = shape.tokens();
  const int64_t width = spec.hidden, experts = spec.experts, choices = tokens * spec.top_k;
  const auto blocks = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
  const int64_t attention = 8 * tokens * spec.heads;
  const int64_t embedding = 16 * blocks(tokens, 1024) * 1024 + 8 * blocks(tokens, 32) * width;
  const int64_t norm = 4 * std::min<int64_t>(256, tokens) * width;
  const int64_t router = blocks(tokens, 32) * (8 + 4 * experts);
  const int64_t order = 4 * blocks(choices, 2048) * experts;
  const int64_t sums = 8 * 1024, products = 3 * 8 * experts;
  return std::max({attention, embedding, norm, router, order, sums, products});
}

int NumSlots(const SlotSchedule& schedule, Lane lane) {
  int count = 0;
  for (int t = 0; t < schedule.num_times(); ++t) {
    for (int u = 0; u < schedule.slots_per_time(); ++u) count += schedule.AnyWork(lane, {t, u});
  }
  return count;
}

}  // namespace

MemoryPlan PlanMemory(const Config& original, const MeshShape& shape, int rank, double imbalance) {
  Config config = original;
  config.mutable_moe()->set_router_constant(1);  // sizes alone are asked for: spares computing it
  const ModelSpec spec = MakeModelSpec(config);
  const TrainConfig& train = config.train();
  const MeshPosition position = PositionOf(shape, rank);
  const int pool_rank = rank % shape.pool(), data_rank = position.replica * shape.data + position.data;
  const ParameterCount count = CountParametersOfRank(config, shape, rank);

  const int64_t tokens = int64_t{train.micro_batch()} * spec.seq_length, rows = tokens * spec.top_k;
  // Every rank of the pool group sends its N rows; with even routing an owner gets them in proportion to its
  // experts.
  const int64_t experts = EvenPartition(spec.experts, shape.pool(), pool_rank).size();
  const int64_t all_rows = rows * shape.pool(), even_rows = all_rows * experts / spec.experts;
  const bool gets_all =
      experts > 0 && imbalance * static_cast<double>(even_rows) > static_cast<double>(all_rows);
  const int64_t received = gets_all ? all_rows : std::llround(experts > 0 ? imbalance * even_rows : 0);
  const int64_t d = spec.hidden, f = spec.expert_width,
                kept = ExpertPool::KeptColumns(spec, train.recompute_experts());
  const int microbatches = MicrobatchesPerRank(config, shape);
  const SlotSchedule schedule(LayersPerStage(config, shape), microbatches);
  const int64_t saved_layers = MostSavedLayers(schedule, position.stage);
  const int64_t stashed_slots = MostStashedSlots(schedule, shape, position.stage);
  const bool is_alone = shape.pool() == 1, is_last = position.stage == shape.stages - 1;
  const DType dtype = DTypeOfConfig(config);
  const Device device = DeviceOf(config);
  const int64_t item = SizeOf(dtype), exact = SizeOf(AccumulatorOf(dtype));
  const int64_t layers = LayersPerStage(config, shape)[position.stage];
  const int64_t parameters = count.total() + PaddingOf(spec, layers, is_last);

  const int64_t dense_part = EvenPartition(parameters - count.experts, shape.data_ranks(), data_rank).size();

  MemoryPlan plan;
  plan[MemoryKind::kParameters] = parameters * exact;
  if (dtype != AccumulatorOf(dtype)) {  // copies to compute with, and what the routers' lack
    const int64_t router = spec.has_router ? layers * spec.experts * d : 0;
    plan[MemoryKind::kParameters] += (parameters + router) * item;
  }
  plan[MemoryKind::kGradients] = parameters * exact;
  plan[MemoryKind::kOptimizer] = 2 * (dense_part + count.experts) * exact;

  const int64_t hidden_states = tokens * d * (microbatches > 1 || !is_last ? 3 : 2);  // output and gradients
  const int64_t joined = shape.pool() > shape.data ? received * (d + kept) : 0;
  plan[MemoryKind::kActivations] =
      saved_layers * LayerSaved::Bytes(spec, tokens, dtype, !train.recompute_attention()) +
      item * (hidden_states + stashed_slots * received * (d + kept) + received * d + joined);
  // Returned rows; between ranks also what both lanes send and receive, and what experts answer.
  const int64_t remote = received - received / shape.pool();
  plan[MemoryKind::kExchange] =
      item * d * (rows + (is_alone ? 0 : 2 * rows + 2 * remote + received)) +
      (device == Device::kCpu ? 0 : SumStaging(spec, shape, count, parameters, exact));

  const bool needs_gate_up = train.recompute_experts() || train.eval_every() > 0;
  const int slots = WeightGradSlots(config);
  const int64_t left_for_weights =  // dgate_up of one slot, or the banks of several
      slots > 1
          ? std::min(2 * slots, NumSlots(schedule, Lane::kBackward)) * WeightGradBanks::ColumnsPerRow(d, f)
          : 2 * f;
  const int64_t expert_scratch = received * (f * (needs_gate_up ? 4 : 2) + left_for_weights);
  const int64_t attention_scratch = tokens * (2 * d + spec.qkv_size());
  const int64_t internals =
      train.recompute_attention() ? AttentionLayer::InternalBytes(spec, tokens, dtype) : 0;
  const int64_t splits = dtype == AccumulatorOf(dtype) ? 0 : 2 * spec.experts;  // of the router's gradient
  const int64_t layer_scratch =
      tokens * (d * item + (spec.experts + spec.top_k) * exact + (spec.has_router ? splits * item : 0));
  const int64_t head_scratch =
      is_last ? tokens * (2 * d * item + exact) + OutputHead::LogitsAtOnce(spec, tokens, device) * item : 0;
  const int64_t groups = spec.num_balance_groups * spec.experts;
  const int64_t balance =
      exact * (spec.layers * spec.experts + groups + spec.experts) + 8 * spec.layers * spec.experts;
  const int64_t token_scratch = tokens * (microbatches * (4 + 4) + 8);  // ids, targets, losses
  const int64_t numbers = 8 + 4 * spec.experts + 8 * (1 + spec.experts) + (device == Device::kCuda ? 8 : 0);
  plan[MemoryKind::kScratch] = internals + token_scratch + balance + numbers +
                               KernelScratch(spec, train.micro_batch(), device) + layer_scratch +
                               head_scratch + item * (expert_scratch + attention_scratch) +
                               exact * spec.seq_length * spec.head_size();
  return plan;
}

}  // namespace unipool
