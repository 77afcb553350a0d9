#include "parallel/mesh.h"

#include "runtime/errors.h"

namespace unipool {

MeshPosition PositionOf(const MeshShape& shape, int world_rank) {
  return {.replica = world_rank / (shape.stages * shape.data),
          .stage = world_rank / shape.data % shape.stages,
          .data = world_rank % shape.data};
}

int RankOf(const MeshShape& shape, const MeshPosition& position) {
  return (position.replica * shape.stages + position.stage) * shape.data + position.data;
}

Mesh::Mesh(Communicator& world, const MeshShape& shape)
    : shape_(shape), position_(PositionOf(shape, world.rank())), world_(&world) {
  CHECK_EQ(shape.world(), world.size()) << "mesh of " << shape.replicas << " replicas x " << shape.stages
                                        << " stages x " << shape.data << " data ranks";
  const auto [replica, stage, data] = position_;
  const int rank_in_replica = stage * shape.data + data;
  const int copy_of_stage = replica * shape.stages + stage;
  stage_ = world.Split(stage, data_rank());
  pipeline_ = world.Split(data_rank(), stage);
  if (shape.span == PoolSpan::kReplica) {
    pool_ = world.Split(replica, rank_in_replica);
    replicas_ = world.Split(rank_in_replica, replica);
  } else {
    pool_ = world.Split(copy_of_stage, data);
    replicas_ = world.Split(data, copy_of_stage);
  }
  CHECK_EQ(pool_->size(), shape.pool());
}

}  // namespace unipool
