// A toy model run by the executor on every layout of the world's ranks against its serial computation, number
// by number: each (microbatch, layer) must meet its own stash, its own returned rows and its own neighbours'
// hidden states.
#include <gtest/gtest.h>

#include <random>

#include "parallel/slot_executor.h"
#include "tests/parallel/recording_communicator.h"
#include "tests/parallel/shared_seed.h"
#include "tests/parallel/toy_stage.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

struct Layout {
  MeshShape shape;
  std::vector<int> layers;
  int num_microbatches = 1;
  int num_experts = 7;
  LaneOrder lane_order = LaneOrder::kInterleaved;
  int pieces_alone = 1;
  HeadPlace head_place = HeadPlace::kLastStage;
};

// One rank of a layout with everything it needs.
struct ToyRank {
  ToyRank(World& world, const Layout& layout, uint64_t seed)
      : model{.seed = seed, .num_layers = Sum(layout.layers), .num_experts = layout.num_experts},
        mesh(*world.communicator, layout.shape),
        placement(ContiguousPlacement(layout.num_experts, layout.shape.pool())),
        schedule(layout.layers, layout.num_microbatches, /*forward_only=*/false, layout.head_place),
        forward_schedule(layout.layers, layout.num_microbatches, /*forward_only=*/true, layout.head_place),
        stream(*world.memory),
        dispatcher(mesh, placement, schedule,
                   {.row_size = ToyModel::kColumns,
                    .max_rows = ToyModel::kMaxTokens * ToyModel::kTopK,
                    .kept_columns = ToyExperts::kKeptColumns,
                    .pieces_alone = layout.pieces_alone},
                   stream, *world.memory),
        stage(mesh, placement, model, schedule),
        experts(placement.experts_of(mesh.pool().rank())),
        executor(mesh, dispatcher, stage, experts, layout.lane_order) {}

  static int Sum(const std::vector<int>& values) {
    int sum = 0;
    for (int value : values) sum += value;
    return sum;
  }

  // Gradients of `runs` training steps over the same samples.
  void ExpectGradients(int runs) const {
    const MeshShape& shape = mesh.shape();
    const bool one_stage = shape.span == PoolSpan::kStage;
    std::vector<int64_t> expert_sums(experts.gradient.size()), dense_sums(stage.dense_gradient.size());
    for (int m = 0; m < schedule.num_microbatches(); ++m) {
      for (size_t l = 0; l < dense_sums.size(); ++l) {
        dense_sums[l] += runs * stage.expected(m).dense_gradient[stage.first_layer() + l];
      }
      for (int data = 0; data < shape.data; ++data) {
        const int data_rank = mesh.position().replica * shape.data + data;
        const ToyResult result = RunSerially(model, m * shape.data_ranks() + data_rank);
        for (int layer = 0; layer < model.num_layers; ++layer) {
          const int of_stage = layer - stage.first_layer();
          if (one_stage && (of_stage < 0 || of_stage >= static_cast<int>(dense_sums.size()))) continue;
          for (size_t e = 0; e < expert_sums.size(); ++e) {
            expert_sums[e] +=
                runs * result.expert_gradient[layer][placement.experts_of(mesh.pool().rank())[e]];
          }
        }
      }
    }
    EXPECT_EQ(experts.gradient, expert_sums);
    EXPECT_EQ(stage.dense_gradient, dense_sums);
  }

  void ExpectCounts(int forwards, int backwards) const {
    EXPECT_EQ(stage.mismatches, 0);
    EXPECT_EQ(experts.mismatches, 0);
    const bool is_last = mesh.position().stage + 1 == mesh.shape().stages;
    EXPECT_EQ(stage.outputs_compared, is_last ? forwards * schedule.num_microbatches() : 0);
    const bool is_spread = schedule.head_place() == HeadPlace::kSpread;
    EXPECT_EQ(stage.shares_compared, is_spread ? forwards * schedule.num_microbatches() : 0);
    EXPECT_EQ(stage.forwards_ended, forwards * schedule.num_microbatches());
    EXPECT_EQ(stage.backwards_ended, backwards * schedule.num_microbatches());
  }

  ToyModel model;
  Mesh mesh;
  ExpertPlacement placement;
  SlotSchedule schedule, forward_schedule;
  Stream stream;
  TokenDispatcher dispatcher;
  ToyStage stage;
  ToyExperts experts;
  SlotExecutor executor;
};

void RunLayout(World& world, const Layout& layout) {
  SCOPED_TRACE(Format("R=%d S=%d D=%d span=%d layers=%d.. B=%d M=%d", layout.shape.replicas,
                      layout.shape.stages, layout.shape.data, static_cast<int>(layout.shape.span),
                      layout.layers[0], layout.num_microbatches, layout.num_experts));
  const uint64_t seed = SharedSeed(world);
  SCOPED_TRACE(SeedText(seed));
  ToyRank rank(world, layout, seed);
  // What experts send when their gradients are complete travels under the last dense backward.
  int ended_at_finish = -1;
  rank.experts.on_finish = [&] { ended_at_finish = rank.stage.backwards_ended; };
  rank.executor.Run(rank.schedule, 0);
  rank.ExpectCounts(1, 1);
  rank.ExpectGradients(1);
  EXPECT_EQ(rank.experts.gradient_at_finish, rank.experts.gradient);
  const bool has_last = rank.mesh.position().stage == 0 && layout.lane_order == LaneOrder::kInterleaved;
  EXPECT_EQ(ended_at_finish, layout.num_microbatches - (has_last ? 1 : 0));
  rank.experts.on_finish = nullptr;
  const int64_t bytes = rank.dispatcher.bytes_sent();
  rank.executor.Run(rank.forward_schedule, 0);  // a validation between two steps leaves nothing behind
  rank.ExpectCounts(2, 1);
  const int64_t bytes_of_two = rank.dispatcher.bytes_sent(), peak = world.memory->peak_bytes();
  rank.executor.Run(rank.schedule, 1);
  rank.ExpectCounts(3, 2);
  rank.ExpectGradients(2);
  EXPECT_EQ(rank.dispatcher.bytes_sent() - bytes_of_two, bytes);
  EXPECT_EQ(world.memory->peak_bytes(), peak);
}

// Layer counts of S stages: equal, and uneven in both directions.
std::vector<std::vector<int>> LayerCounts(int num_stages) {
  switch (num_stages) {
    case 1:
      return {{1}, {4}};
    case 2:
      return {{1, 1}, {1, 3}, {3, 2}, {4, 1}};
    case 3:
      return {{1, 1, 1}, {2, 1, 3}, {3, 2, 2}, {1, 3, 1}};
    default:
      return {{1, 1, 1, 1}, {1, 3, 2, 1}, {2, 1, 1, 3}};
  }
}

void RunAllLayouts(World& world, PoolSpan span, LaneOrder lane_order = LaneOrder::kInterleaved,
                   int pieces_alone = 1, HeadPlace head_place = HeadPlace::kLastStage) {
  int num_layouts = 0;
  for (int replicas = 1; replicas <= 2; ++replicas) {
    for (int stages = 1; stages <= 4; ++stages) {
      const int data = world.size() / (replicas * stages);
      const MeshShape shape{.replicas = replicas, .stages = stages, .data = data, .span = span};
      if (shape.world() != world.size()) continue;
      for (const std::vector<int>& layers : LayerCounts(stages)) {
        for (int num_microbatches : {1, 2, 3, 5, 9}) {
          RunLayout(world, {.shape = shape,
                            .layers = layers,
                            .num_microbatches = num_microbatches,
                            .num_experts = pieces_alone > 1 ? 13 : 7,
                            .lane_order = lane_order,
                            .pieces_alone = pieces_alone,
                            .head_place = head_place});
          ++num_layouts;
        }
      }
    }
  }
  EXPECT_GT(num_layouts, 0);
}

TEST(SlotExecutor, EveryLayoutGivesTheSerialNumbers) {
  RunOnRanks([](World& world) { RunAllLayouts(world, PoolSpan::kReplica); });
}

TEST(SlotExecutor, PoolPerStageGivesTheSerialNumbers) {
  RunOnRanks([](World& world) { RunAllLayouts(world, PoolSpan::kStage); });
}

TEST(SlotExecutor, LanesOneAfterTheOtherGiveTheSerialNumbers) {
  RunOnRanks([](World& world) { RunAllLayouts(world, PoolSpan::kReplica, LaneOrder::kSequential); });
}

TEST(SlotExecutor, PiecesOfALoneLaneGiveTheSerialNumbers) {
  RunOnRanks([](World& world) {
    RunAllLayouts(world, PoolSpan::kReplica, LaneOrder::kInterleaved, /*pieces_alone=*/2);
    RunAllLayouts(world, PoolSpan::kStage, LaneOrder::kInterleaved, /*pieces_alone=*/3);
    RunAllLayouts(world, PoolSpan::kReplica, LaneOrder::kSequential, /*pieces_alone=*/3);
  });
}

TEST(SlotExecutor, ASpreadHeadGivesTheSerialNumbers) {
  RunOnRanks([](World& world) {
    for (const PoolSpan span : {PoolSpan::kReplica, PoolSpan::kStage}) {
      for (const LaneOrder order : {LaneOrder::kInterleaved, LaneOrder::kSequential})
        RunAllLayouts(world, span, order, /*pieces_alone=*/1, HeadPlace::kSpread);
    }
  });
}

// Ranks of a pool group, whatever their stage and lanes have to do, start the same exchanges in the same
// order.
void CheckJournals(World& world, HeadPlace head_place) {
  for (int stages = 1; stages <= world.size(); ++stages) {
    if (world.size() % stages != 0) continue;
    for (const std::vector<int>& layers : LayerCounts(stages)) {
      for (const LaneOrder order : {LaneOrder::kInterleaved, LaneOrder::kSequential}) {
        std::string journal;
        RecordingCommunicator recording(*world.communicator, journal);
        World recorded = world;
        recorded.communicator = &recording;
        const MeshShape shape{.stages = stages, .data = world.size() / stages};
        const Layout layout{.shape = shape,
                            .layers = layers,
                            .num_microbatches = 3,
                            .num_experts = 9,
                            .lane_order = order,
                            .pieces_alone = 2,
                            .head_place = head_place};
        ToyRank rank(recorded, layout, SharedSeed(world));
        journal.clear();
        rank.executor.Run(rank.schedule, 0);
        rank.executor.Run(rank.forward_schedule, 1);
        const int64_t slots = rank.schedule.num_times() * rank.schedule.slots_per_time();
        EXPECT_GT(std::count(journal.begin(), journal.end(), '\n'), world.size() > 1 ? 2 * slots : -1);
        for (const std::string& other :
             world.communicator->AllGatherText(journal, {.operation = "journals"})) {
          EXPECT_EQ(other, journal) << stages << " stages, " << layers[0] << ".. layers";
        }
      }
    }
  }
}

TEST(SlotExecutor, SameExchangesInTheSameOrderOnEveryRank) {
  RunOnRanks([](World& world) {
    CheckJournals(world, HeadPlace::kLastStage);
    CheckJournals(world, HeadPlace::kSpread);
  });
}

TEST(SlotExecutor, RanksWithoutExperts) {
  RunOnRanks([](World& world) {
    for (int stages : {1, world.size()}) {
      const MeshShape shape{.stages = stages, .data = world.size() / stages};
      RunLayout(
          world,
          {.shape = shape, .layers = LayerCounts(stages).back(), .num_microbatches = 3, .num_experts = 2});
    }
  });
}

TEST(SlotExecutor, LaterStepsAllocateNothing) {
  RunOnRanks([](World& world) {
    const MeshShape shape{.stages = world.size() % 2 ? 1 : 2,
                          .data = world.size() % 2 ? world.size() : world.size() / 2};
    ToyRank rank(world,
                 {.shape = shape,
                  .layers = LayerCounts(shape.stages).back(),
                  .num_microbatches = 5,
                  .head_place = HeadPlace::kSpread},
                 SharedSeed(world));
    rank.executor.Run(rank.schedule, 0);
    rank.executor.Run(rank.forward_schedule, 0);
    const int64_t before = NumAllocations();
    EXPECT_GT(before, 0) << "the counter counts";
    rank.executor.Run(rank.schedule, 1);
    rank.executor.Run(rank.forward_schedule, 1);
    rank.executor.Run(rank.schedule, 2);
    EXPECT_EQ(NumAllocations() - before, 0);
    rank.ExpectCounts(5, 3);
    rank.ExpectGradients(3);
  });
}

}  // namespace
}  // namespace unipool
