// Rows go to their owners and back, in all layouts and whatever is chosen (dispatch_walk.h).
#include <gtest/gtest.h>

#include "tests/parallel/dispatch_walk.h"
#include "tests/parallel/shared_seed.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

using dispatch_walk::Case;
using dispatch_walk::Choices;
using dispatch_walk::Walk;

void RunCase(World& world, const Case& c, const ExpertPlacement& placement) {
  SCOPED_TRACE(Format("R=%d S=%d D=%d span=%d M=%d B=%d choices=%d forward_only=%d", c.shape.replicas,
                      c.shape.stages, c.shape.data, static_cast<int>(c.shape.span), c.num_experts,
                      c.num_microbatches, static_cast<int>(c.choices), int{c.forward_only}));
  const uint64_t seed = SharedSeed(world);
  SCOPED_TRACE(SeedText(seed));
  Walk(world, c, placement, seed).Run();
}

// Stages as many as ranks, half as many, and one; each with layers that differ by stage.
std::vector<Case> Shapes(const World& world) {
  std::vector<Case> cases;
  for (int stages = 1; stages <= world.size(); ++stages) {
    if (world.size() % stages != 0) continue;
    std::vector<int> layers(stages, 2);
    layers.back() = 3;
    cases.push_back({.shape = {.stages = stages, .data = world.size() / stages},
                     .num_experts = 7,
                     .layers = layers,
                     .num_microbatches = 5});
  }
  return cases;
}

TEST(TokenDispatcher, RowsGoToTheirOwnersAndBack) {
  RunOnRanks([](World& world) {
    for (const Case& c : Shapes(world)) RunCase(world, c, ContiguousPlacement(c.num_experts, c.shape.pool()));
  });
}

TEST(TokenDispatcher, ExpertsInAnyOrder) {
  RunOnRanks([](World& world) {
    for (const Case& c : Shapes(world)) {
      std::vector<int> owner;
      for (int expert = 0; expert < c.num_experts; ++expert)
        owner.push_back((expert * 5 + 3) % c.shape.pool());
      RunCase(world, c, ExpertPlacement(owner, c.shape.pool()));
    }
  });
}

TEST(TokenDispatcher, OneExpertForAllRanks) {
  RunOnRanks([](World& world) {
    for (Case c : Shapes(world)) {
      c.num_experts = 1;
      RunCase(world, c, ContiguousPlacement(1, c.shape.pool()));
    }
  });
}

TEST(TokenDispatcher, ExtremeChoices) {
  RunOnRanks([](World& world) {
    for (Case c : Shapes(world)) {
      for (Choices choices : {Choices::kOneExpert, Choices::kNobody, Choices::kOnlyRankZero}) {
        c.choices = choices;
        RunCase(world, c, ContiguousPlacement(c.num_experts, c.shape.pool()));
      }
    }
  });
}

TEST(TokenDispatcher, ForwardOnly) {
  RunOnRanks([](World& world) {
    for (Case c : Shapes(world)) {
      c.forward_only = true;
      RunCase(world, c, ContiguousPlacement(c.num_experts, c.shape.pool()));
    }
  });
}

// More pieces than a rank has experts are as many as the rank with the fewest has.
TEST(TokenDispatcher, ALaneThatIsAloneGoesInPieces) {
  RunOnRanks([](World& world) {
    for (Case c : Shapes(world)) {
      c.num_experts = 11;
      for (const Choices choices : {Choices::kRandom, Choices::kOneExpert, Choices::kOnlyRankZero}) {
        for (const int pieces : {2, 3, 9}) {
          c.choices = choices;
          c.pieces_alone = pieces;
          c.forward_only = pieces == 3;
          RunCase(world, c, ContiguousPlacement(c.num_experts, c.shape.pool()));
        }
      }
    }
  });
}

// Two shadows a rank, of experts of other ranks, with any shares; the last rank has an empty room.
ExpertPlacement WithShadows(const ExpertPlacement& owners, uint64_t seed) {
  const int ranks = owners.num_ranks(), experts = owners.num_experts();
  std::vector<int> owner(experts);
  for (int e = 0; e < experts; ++e) owner[e] = owners.owner(e);
  std::vector<std::vector<int>> shadows(ranks, std::vector<int>(2, -1));
  for (int rank = 0; rank < ranks; ++rank) {
    int next = 0;
    for (int e = experts; e-- > 0 && next < (rank + 1 < ranks ? 2 : 1);) {
      if (owner[e] != rank) shadows[rank][next++] = e;
    }
  }
  const ExpertPlacement placed(owner, ranks, {.of_rank = shadows, .shares = {}});
  std::vector<int32_t> shares(placed.num_places());
  for (int e = 0; e < experts; ++e) {
    int left = kShareUnits;
    for (const int place : placed.places_of(e)) {
      shares[place] = static_cast<int32_t>(RandomBits(seed, place) % (left + 1));
      left -= shares[place];
    }
    shares[placed.send_index(e)] += left;
  }
  return ExpertPlacement(owner, ranks, {.of_rank = shadows, .shares = shares});
}

TEST(TokenDispatcher, RowsOfAnExpertGoToItsCopies) {
  RunOnRanks([](World& world) {
    const uint64_t seed = SharedSeed(world);
    SCOPED_TRACE(SeedText(seed));
    for (Case c : Shapes(world)) {
      for (const PoolSpan span : {PoolSpan::kReplica, PoolSpan::kStage}) {
        for (const Choices choices : {Choices::kRandom, Choices::kOneExpert}) {
          c.shape.span = span;
          c.choices = choices;
          c.pieces_alone = choices == Choices::kRandom ? 3 : 1;
          const ExpertPlacement placement =
              WithShadows(ContiguousPlacement(c.num_experts, c.shape.pool()), seed);
          EXPECT_EQ(placement.num_places(), c.num_experts + 2 * c.shape.pool());
          RunCase(world, c, placement);
        }
      }
    }
  });
}

TEST(TokenDispatcher, ReplicasAndPoolsPerStageKeepToThemselves) {
  RunOnRanks([](World& world) {
    for (Case c : Shapes(world)) {
      c.shape.span = PoolSpan::kStage;
      RunCase(world, c, ContiguousPlacement(c.num_experts, c.shape.pool()));
      c.shape = {.replicas = c.shape.data, .stages = c.shape.stages, .data = 1};
      RunCase(world, c, ContiguousPlacement(c.num_experts, c.shape.pool()));
    }
  });
}

// A world of one rank: the experts read what the source wrote, and the source reads what the experts wrote,
// where it lies.
TEST(TokenDispatcher, OneRankCopiesNothing) {
  RunOnRanks([](World& world) {
    const auto alone = world.communicator->Split(world.rank(), 0);
    const Mesh mesh(*alone, {});
    const ExpertPlacement placement = ContiguousPlacement(3, 1);
    const SlotSchedule schedule({1}, 1);
    Stream stream(*world.memory);
    TokenDispatcher dispatcher(mesh, placement, schedule, {.row_size = 2, .max_rows = 4, .kept_columns = 1},
                               stream, *world.memory);
    DispatchHandle handle;
    PlanRows({2, 0, 2, 1}, {1, 1, 0, 1}, 2, placement, handle.plan);
    float returned[6];
    const Tensor returned_rows(returned, DType::kF32, {3, 2});
    dispatcher.StartCounts({.time = 0, .index = 0}, &handle);
    const Tensor x = dispatcher.SendRows(Lane::kForward, {.time = 0, .index = 0}, handle);
    dispatcher.StartDispatch(Lane::kForward, {.time = 0, .index = 0}, &handle, returned_rows);
    EXPECT_EQ(dispatcher.WaitDispatch(Lane::kForward, {.time = 0, .index = 0}, 0).x.data, x.data);
    EXPECT_EQ(dispatcher.AnswerRows(Lane::kForward).data, returned);
    const void* kept = dispatcher.KeepRows({.time = 0, .index = 0}).data;
    dispatcher.StartCombine(Lane::kForward, {.time = 0, .index = 0}, 0);
    dispatcher.WaitCombine(Lane::kForward);
    const Tensor dy = dispatcher.SendRows(Lane::kBackward, {.time = 1, .index = 0}, handle);
    dispatcher.StartDispatch(Lane::kBackward, {.time = 1, .index = 0}, &handle, returned_rows);
    const OwnerBatch batch = dispatcher.WaitDispatch(Lane::kBackward, {.time = 1, .index = 0}, 0);
    EXPECT_EQ(batch.x.data, x.data);
    EXPECT_EQ(batch.kept.data, kept);
    EXPECT_EQ(batch.dy.data, dy.data);
    EXPECT_NE(dy.data, x.data);
    EXPECT_EQ(dispatcher.AnswerRows(Lane::kBackward).data, returned);
    EXPECT_EQ(dispatcher.bytes_sent(), 0);
  });
}

}  // namespace
}  // namespace unipool
