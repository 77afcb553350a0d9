// Who is who: world = R pool replicas x S stages x D data ranks, replica slowest, data fastest. (Of ranks, R
// and D mean this; of tensors, what README.md says under "Letters".)
//   Example: 8 ranks, R = 1, S = 2, D = 4. Rank 5 is data rank 1 of stage 1. Its pool group is all 8 ranks,
//   its stage group is ranks 4 to 7, its pipeline is ranks 1 and 5.
#pragma once

#include <memory>

#include "runtime/communicator.h"

namespace unipool {

class DeviceLinks;
class TrafficRecorder;

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
// These four and device_world carry memory of the rank's device. world and host_pool carry memory of the
// host. Without a device both are the same memory.
class Mesh {
 public:
  // Collective over `world`. `links` (device_links.h) is null where tensors are in host memory. Both must
  // outlive it. While exchanges of device memory are under way, host memory travels only through the mesh's
  // world() and host_pool(). `recorder` records the groups under the names above; null: nobody does. It
  // outlives the mesh. REQUIRES: shape.world() == world.size().
  Mesh(Communicator& world, const MeshShape& shape, DeviceLinks* links = nullptr,
       TrafficRecorder* recorder = nullptr);
  ~Mesh();
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
  Communicator& host_pool() const { return *host_pool_; }        // the ranks of pool(); carries row counts
  Communicator& device_world() const { return *device_world_; }  // the ranks of world()
  // As world().Split; recorded under `name` where the groups are.
  std::unique_ptr<Communicator> SplitWorld(int color, int key, const char* name) const;

 private:
  void PutOnDevice(Communicator& world, DeviceLinks& links);
  void RecordGroups(TrafficRecorder& recorder);

  MeshShape shape_;
  MeshPosition position_;
  TrafficRecorder* recorder_;
  Communicator *world_, *host_pool_, *device_world_;
  std::unique_ptr<Communicator> pool_, stage_, pipeline_, replicas_;
  // With a device only: the split behind host_pool_, the gates of both host communicators, device_world_.
  std::unique_ptr<Communicator> host_pool_split_, host_pool_gate_, world_gate_, device_world_owned_;
};

}  // namespace unipool
