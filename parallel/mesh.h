// Who is who: world = R pool replicas x S stages x D data ranks, replica slowest, data fastest. DESIGN
// section 4.
#pragma once

#include <memory>

#include "runtime/communicator.h"

namespace unipool {

// Which ranks share one copy of the pool.
enum class PoolSpan : int {
  kReplica,  // all S*D ranks of a replica: one pool across all pipeline stages
  kStage,    // the D ranks of one stage: each stage holds the whole pool (the baseline)
};

struct MeshShape {
  int replicas = 1;  // R
  int stages = 1;    // S
  int data = 1;      // D, per replica
  PoolSpan span = PoolSpan::kReplica;
  int world() const { return replicas * stages * data; }
  // W, ranks that share one copy of the pool.
  int pool() const { return span == PoolSpan::kReplica ? stages * data : data; }
  // Ranks that read different samples.
  int data_ranks() const { return replicas * data; }
};

struct MeshPosition {
  int replica = 0, stage = 0, data = 0;
};

MeshPosition PositionOf(const MeshShape& shape, int world_rank);
int RankOf(const MeshShape& shape, const MeshPosition& position);

// The process groups of one rank. Each is a communicator of its own.
//   pool      W ranks that share one copy of the pool, by stage, then data: dispatch and combine
//   stage     R*D ranks that hold the same layers: dense gradients
//   pipeline  S ranks with this (replica, data): activations between stages; rank in it == stage
//   replicas  ranks that own the same experts, one per copy of the pool (R, or R*S with PoolSpan::kStage):
//             expert gradients
class Mesh {
 public:
  // Collective over `world`, which must outlive it. REQUIRES: shape.world() == world.size().
  Mesh(Communicator& world, const MeshShape& shape);
  const MeshShape& shape() const { return shape_; }
  const MeshPosition& position() const { return position_; }
  int data_rank() const { return position_.replica * shape_.data + position_.data; }  // in [0, data_ranks())
  // Stage of a rank of the pool group.
  int StageOfPoolRank(int pool_rank) const {
    return shape_.span == PoolSpan::kReplica ? pool_rank / shape_.data : position_.stage;
  }
  Communicator& world() const { return *world_; }
  Communicator& pool() const { return *pool_; }
  Communicator& stage() const { return *stage_; }
  Communicator& pipeline() const { return *pipeline_; }
  Communicator& replicas() const { return *replicas_; }

 private:
  MeshShape shape_;
  MeshPosition position_;
  Communicator* world_;
  std::unique_ptr<Communicator> pool_, stage_, pipeline_, replicas_;
};

}  // namespace unipool
