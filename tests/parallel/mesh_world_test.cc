#include <gtest/gtest.h>

#include <functional>

#include "parallel/mesh.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

TEST(Mesh, PositionsAndRanksAreInverse) {
  const MeshShape shape{.replicas = 2, .stages = 3, .data = 4};
  EXPECT_EQ(shape.world(), 24);
  EXPECT_EQ(shape.pool(), 12);
  EXPECT_EQ(shape.data_ranks(), 8);
  EXPECT_EQ(RankOf(shape, {.replica = 1, .stage = 2, .data = 3}), 23);
  EXPECT_EQ(RankOf(shape, {.replica = 1, .stage = 0, .data = 2}), 14);
  EXPECT_EQ(RankOf(shape, {.replica = 0, .stage = 1, .data = 0}), 4);
  for (int rank = 0; rank < shape.world(); ++rank) EXPECT_EQ(RankOf(shape, PositionOf(shape, rank)), rank);
}

// World ranks of a group in its order, as its members say themselves.
std::vector<int> Members(World& world, Communicator& group) {
  std::vector<int> members;
  for (const std::string& text : group.AllGatherText(std::to_string(world.rank()), {}))
    members.push_back(std::stoi(text));
  return members;
}

// World ranks for which `in` holds, ascending.
std::vector<int> RanksWhere(const MeshShape& shape, const std::function<bool(const MeshPosition&)>& in) {
  std::vector<int> ranks;
  for (int rank = 0; rank < shape.world(); ++rank) {
    if (in(PositionOf(shape, rank))) ranks.push_back(rank);
  }
  return ranks;
}

void ExpectGroups(World& world, const MeshShape& shape) {
  const Mesh mesh(*world.communicator, shape);
  const MeshPosition me = PositionOf(shape, world.rank());
  const bool per_stage = shape.span == PoolSpan::kStage;
  EXPECT_EQ(mesh.data_rank(), me.replica * shape.data + me.data);
  EXPECT_EQ(Members(world, mesh.pool()), RanksWhere(shape, [&](const MeshPosition& p) {
              return p.replica == me.replica && (!per_stage || p.stage == me.stage);
            }));
  EXPECT_EQ(Members(world, mesh.stage()),
            RanksWhere(shape, [&](const MeshPosition& p) { return p.stage == me.stage; }));
  EXPECT_EQ(Members(world, mesh.pipeline()), RanksWhere(shape, [&](const MeshPosition& p) {
              return p.replica == me.replica && p.data == me.data;
            }));
  EXPECT_EQ(Members(world, mesh.replicas()), RanksWhere(shape, [&](const MeshPosition& p) {
              return p.data == me.data && (per_stage || p.stage == me.stage);
            }));
  EXPECT_EQ(mesh.stage().rank(), mesh.data_rank());
  EXPECT_EQ(mesh.pipeline().rank(), me.stage);
  const std::vector<int> pool = Members(world, mesh.pool());
  for (int rank = 0; rank < mesh.pool().size(); ++rank) {
    EXPECT_EQ(mesh.StageOfPoolRank(rank), PositionOf(shape, pool[rank]).stage);
  }
}

TEST(Mesh, GroupsOfEveryShape) {
  RunOnRanks([](World& world) {
    for (int replicas = 1; replicas <= world.size(); ++replicas) {
      for (int stages = 1; stages <= world.size(); ++stages) {
        for (PoolSpan span : {PoolSpan::kReplica, PoolSpan::kStage}) {
          const MeshShape shape{.replicas = replicas,
                                .stages = stages,
                                .data = world.size() / (replicas * stages),
                                .span = span};
          if (shape.world() == world.size()) ExpectGroups(world, shape);
        }
      }
    }
  });
}

}  // namespace
}  // namespace unipool
