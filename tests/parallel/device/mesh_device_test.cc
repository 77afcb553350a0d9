#include <gmock/gmock.h>

#include "parallel/device_links.h"
#include "parallel/mesh.h"
#include "tests/fresh_seed.h"
#include "tests/parallel/device/device_rank.h"

namespace unipool {
namespace {

using emulation::kAllPolicies;

// World ranks of a group in its order, as its members say themselves, through the memory it is for.
std::vector<int> DeviceMembers(World& world, DeviceRank& device, Communicator& group) {
  EXPECT_TRUE(group.OnDevice());
  const int size = group.size();
  const Buffer memory = device.Allocate((size + 1) * sizeof(int));
  int* numbers = static_cast<int*>(memory.data());
  const emulation::Access all{numbers, memory.max_bytes(), true};
  device.Compute("say", {all}, [=, rank = world.rank()] { numbers[size] = rank; });
  std::vector<SendBlock> send(size, {numbers + size, sizeof(int)});
  std::vector<RecvBlock> recv(size);
  for (int p = 0; p < size; ++p) recv[p] = {numbers + p, sizeof(int)};
  group.Exchange(send, recv, {.operation = "members"});
  std::vector<int> members(size, -1);
  device.Compute("hear", {all}, [&] { std::copy_n(numbers, size, members.begin()); });
  device.context.Drain();
  return members;
}

std::vector<int> HostMembers(World& world, Communicator& group) {
  EXPECT_FALSE(group.OnDevice());
  std::vector<int> members;
  for (const std::string& text : group.AllGatherText(std::to_string(world.rank()), {})) {
    members.push_back(std::stoi(text));
  }
  return members;
}

// Every group has the ranks and the order of the mesh without a device.
void ExpectGroups(World& world, DeviceRank& device, DeviceLinks& links, const MeshShape& shape) {
  const Mesh host(*world.communicator, shape);
  const Mesh mesh(*world.communicator, shape, &links);
  EXPECT_EQ(&host.host_pool(), &host.pool());
  EXPECT_EQ(&host.device_world(), &host.world());
  EXPECT_EQ(&host.world(), world.communicator);
  EXPECT_EQ(DeviceMembers(world, device, mesh.pool()), HostMembers(world, host.pool()));
  EXPECT_EQ(DeviceMembers(world, device, mesh.stage()), HostMembers(world, host.stage()));
  EXPECT_EQ(DeviceMembers(world, device, mesh.pipeline()), HostMembers(world, host.pipeline()));
  EXPECT_EQ(DeviceMembers(world, device, mesh.replicas()), HostMembers(world, host.replicas()));
  EXPECT_EQ(DeviceMembers(world, device, mesh.device_world()), HostMembers(world, *world.communicator));
  EXPECT_EQ(HostMembers(world, mesh.host_pool()), HostMembers(world, host.pool()));
  EXPECT_EQ(HostMembers(world, mesh.world()), HostMembers(world, *world.communicator));
  EXPECT_EQ(mesh.pool().rank(), host.pool().rank());
}

void ExpectEveryShape(World& world, emulation::RunPolicy policy) {
  DeviceRank device(policy, FreshSeed() + world.rank());
  const ChosenLinks chosen =
      MakeDeviceLinks({.device_id = "uuid-1", .device_name = "GPU X"}, world, device.communication());
  EXPECT_EQ(chosen.choice.kind, TransportKind::kThreads);
  EXPECT_THAT(
      chosen.choice.why,
      testing::HasSubstr(world.size() == 1 ? "nobody to send to" : "ranks 0 and 1 share GPU X (uuid-1)"));
  for (int replicas = 1; replicas <= world.size(); ++replicas) {
    for (int stages = 1; stages <= world.size(); ++stages) {
      for (const PoolSpan span : {PoolSpan::kReplica, PoolSpan::kStage}) {
        const MeshShape shape{
            .replicas = replicas, .stages = stages, .data = world.size() / (replicas * stages), .span = span};
        if (shape.world() == world.size()) ExpectGroups(world, device, *chosen.links, shape);
      }
    }
  }
}

TEST(MeshOnDevices, GroupsOfEveryShape) {
  for (const auto policy : kAllPolicies) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      EXPECT_EQ(0, RunWorld({.num_threads = ranks, .timeout = std::chrono::milliseconds(30'000)},
                            [&](World& world) { ExpectEveryShape(world, policy); }));
    }
  }
}

// What a rank holds back while it waits for an exchange of the host another may need before it joins that
// one.
void ExpectNothingHeldBack(World& world, emulation::RunPolicy policy, bool ask_pool) {
  DeviceRank device(policy, FreshSeed() + world.rank());
  const ChosenLinks chosen = MakeDeviceLinks({}, world, device.communication());
  const Mesh mesh(*world.communicator, {.data = world.size()}, chosen.links.get());
  const Buffer memory = device.Allocate(16);
  auto* numbers = static_cast<int64_t*>(memory.data());
  const std::vector<emulation::Access> all{{numbers, 16, true}};
  device.Compute("fill", all, [=] { numbers[0] = 17, numbers[1] = 0; });
  std::vector<SendBlock> send(world.size());
  std::vector<RecvBlock> recv(world.size());
  if (world.rank() == 0) send[1] = {numbers, sizeof(int64_t)};
  if (world.rank() == 1) recv[0] = {numbers + 1, sizeof(int64_t)};
  const auto ticket = mesh.pool().Start(send, recv, {.operation = "rows"});
  if (world.rank() == 1) mesh.pool().Wait(ticket);
  (ask_pool ? mesh.host_pool() : mesh.world()).Barrier({.operation = "counts"});
  if (world.rank() != 1) mesh.pool().Wait(ticket);
  if (world.rank() == 1) device.Compute("check", all, [=] { EXPECT_EQ(numbers[1], 17); });
  device.context.Drain();
}

TEST(MeshOnDevices, WaitingForTheHostHoldsNothingBack) {
  for (const auto policy : kAllPolicies) {
    for (const bool ask_pool : {true, false}) {
      EXPECT_EQ(0, RunWorld({.num_threads = 3, .timeout = std::chrono::milliseconds(10'000)},
                            [&](World& world) { ExpectNothingHeldBack(world, policy, ask_pool); }));
    }
  }
}

TEST(MeshOnDevices, ATransportThatCannotBeEndsTheJobOnce) {
  testing::internal::CaptureStderr();
  const int exit_code = RunWorld({.num_threads = 3}, [](World& world) {
    DeviceRank device(emulation::RunPolicy::kEager, 1);
    MakeDeviceLinks({.requested = TransportKind::kMpi, .device_id = std::to_string(world.rank())}, world,
                    device.communication());
  });
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(exit_code, kUserErrorExitCode);
  EXPECT_EQ(said,
            "error: parallel.transport is MPI, but the ranks are threads of one process: start them with "
            "mpirun, or "
            "set it to AUTO or THREADS\n");
}

}  // namespace
}  // namespace unipool
