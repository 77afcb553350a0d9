#include "parallel/mesh.h"

#include <vector>

#include "parallel/device_links.h"
#include "runtime/errors.h"
#include "runtime/traffic_recorder.h"

namespace unipool {

MeshPosition PositionOf(const MeshShape& shape, int world_rank) {
  return {.replica = world_rank / (shape.stages * shape.data),
          .stage = world_rank / shape.data % shape.stages,
          .data = world_rank % shape.data};
}

int RankOf(const MeshShape& shape, const MeshPosition& position) {
  return (position.replica * shape.stages + position.stage) * shape.data + position.data;
}

Mesh::Mesh(Communicator& world, const MeshShape& shape, DeviceLinks* links, TrafficRecorder* recorder)
    : shape_(shape),
      position_(PositionOf(shape, world.rank())),
      recorder_(recorder),
      world_(&world),
      device_world_(&world) {
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
  host_pool_ = pool_.get();
  if (links) PutOnDevice(world, *links);
  if (recorder) RecordGroups(*recorder);
}

Mesh::~Mesh() = default;

void Mesh::PutOnDevice(Communicator& world, DeviceLinks& links) {
  // Row counts have a communicator of their own: the links' is theirs alone.
  host_pool_split_ = pool_->Split(0, pool_->rank());
  host_pool_gate_ = links.Host(*host_pool_split_);
  host_pool_ = host_pool_gate_ ? host_pool_gate_.get() : host_pool_split_.get();
  world_gate_ = links.Host(world);
  if (world_gate_) world_ = world_gate_.get();
  pool_ = links.Device(std::move(pool_));
  stage_ = links.Device(std::move(stage_));
  pipeline_ = links.Device(std::move(pipeline_));
  replicas_ = links.Device(std::move(replicas_));
  device_world_owned_ = links.Device(world.Split(0, world.rank()));
  device_world_ = device_world_owned_.get();
}

// All groups are ordered as the world is. That of all ranks on the host is recorded by whoever made it.
void Mesh::RecordGroups(TrafficRecorder& recorder) {
  const auto record = [&](std::unique_ptr<Communicator>& group, const char* name, const auto& is_member) {
    std::vector<int> members;
    for (int rank = 0; rank < shape_.world(); ++rank) {
      if (is_member(PositionOf(shape_, rank))) members.push_back(rank);
    }
    group = recorder.Record(std::move(group), name, members, group->OnDevice() ? "device" : "");
  };
  const bool per_stage = shape_.span == PoolSpan::kStage;
  const auto in_pool = [&](const MeshPosition& p) {
    return p.replica == position_.replica && (!per_stage || p.stage == position_.stage);
  };
  record(pool_, "pool", in_pool);
  record(stage_, "stage", [&](const MeshPosition& p) { return p.stage == position_.stage; });
  record(pipeline_, "pipeline",
         [&](const MeshPosition& p) { return p.replica == position_.replica && p.data == position_.data; });
  record(replicas_, "replicas", [&](const MeshPosition& p) {
    return p.data == position_.data && (per_stage || p.stage == position_.stage);
  });
  if (!host_pool_split_) {
    host_pool_ = pool_.get();
    return;
  }
  auto& host_pool = host_pool_gate_ ? host_pool_gate_ : host_pool_split_;
  record(host_pool, "host pool", in_pool);
  host_pool_ = host_pool.get();
  record(device_world_owned_, "device world", [](const MeshPosition&) { return true; });
  device_world_ = device_world_owned_.get();
}

std::unique_ptr<Communicator> Mesh::SplitWorld(int color, int key, const char* name) const {
  std::unique_ptr<Communicator> part = world_->Split(color, key);
  return recorder_ ? recorder_->RecordPart(std::move(part), name) : std::move(part);
}

}  // namespace unipool
