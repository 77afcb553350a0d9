// What is recorded of exchanges of device memory: the device's times of each, without a wait on their way.
#include <deque>

#include "parallel/nccl_communicator.h"
#include "runtime/traffic_recorder.h"
#include "runtime/world.h"
#include "tests/fresh_seed.h"
#include "tests/parallel/device/device_blocks.h"
#include "tests/parallel/device/fake_nccl.h"

namespace unipool {
namespace {

using emulation::kAllPolicies;
using emulation::RunPolicy;

constexpr int kUnderWay = 4, kSteps = 3;

// One step of exchanges that are under way together; between start and wait the compute queue works.
void Step(Communicator& communicator, DeviceRank& device, std::deque<DeviceBlocks>& blocks, int step) {
  Communicator::Ticket tickets[kUnderWay];
  for (int k = 0; k < kUnderWay; ++k) tickets[k] = blocks[k].Start(communicator, step * kUnderWay + k);
  for (int k = 0; k < kUnderWay; ++k) {
    device.Compute("other work", {}, [] {});
    communicator.Wait(tickets[k]);
    blocks[k].CheckArrived(step * kUnderWay + k);
  }
}

TEST(RecordedDevice, EachExchangeHasItsTimesOnTheDevice) {
  for (const RunPolicy policy : kAllPolicies) {
    const auto wire = std::make_shared<FakeNcclWire>();
    const int exit_code = RunWorld({.num_threads = 3}, [&](World& world) {
      std::vector<std::string> journal;
      DeviceRank device(policy, FreshSeed() + world.rank());
      const auto traffic =
          std::make_shared<NcclTraffic>(std::make_unique<FakeNccl>(wire, journal), device.communication(),
                                        *world.communicator, std::chrono::milliseconds(30'000));
      TrafficRecorder recorder({.rank = world.rank(),
                                .node_of_rank = std::vector<int>(world.size()),
                                .carrier = "threads",
                                .board = nullptr,
                                .clock = {}});
      const auto host = world.communicator->Split(0, world.rank());
      const auto pool =
          recorder.Record(MakeNcclCommunicator(*host, world.rank(), traffic), "pool", {0, 1, 2}, "device");
      recorder.SetSizes({.layers = 1, .slots_per_time = 1, .num_slots = 1});
      std::deque<DeviceBlocks> blocks;
      for (int k = 0; k < kUnderWay; ++k) blocks.emplace_back(device, world.rank(), world.size());
      recorder.KeepExchanges(kUnderWay, kUnderWay * world.size());
      int64_t blocked_ns = 0;
      for (int step = 0; step < kSteps; ++step) {
        recorder.BeginStep(step);
        const size_t host_waits = device.context.records().host_waits.size();
        Step(*pool, device, blocks, step);
        EXPECT_EQ(device.context.records().host_waits.size(), host_waits);
        recorder.EndStep();
        EXPECT_GE(recorder.device_anchor().host_ns, 0);
        EXPECT_GE(recorder.device_anchor().uncertainty_ns, 0);
        const auto records = recorder.keep().records();
        ASSERT_EQ(records.size(), size_t{kUnderWay});
        for (size_t k = 0; k < records.size(); ++k) {
          const ExchangeRecord& r = records[k];
          EXPECT_GE(r.device_begin_ns, 0);
          EXPECT_GE(r.device_end_ns, r.device_begin_ns);
          EXPECT_GE(r.device_blocked_end_ns, r.device_blocked_begin_ns);
          EXPECT_GE(r.device_blocked_end_ns, r.device_begin_ns);
          blocked_ns += r.device_blocked_end_ns - r.device_blocked_begin_ns;
          if (k > 0) {
            EXPECT_GE(r.device_blocked_begin_ns,
                      records[k - 1].device_blocked_end_ns + emulation::AsyncDevice::kOperationNs)
                << "other work lies in between";
          }
        }
      }
      if (policy == RunPolicy::kCommunicationLate) {
        EXPECT_GT(blocked_ns, 0) << "the compute queue waits for all that comes";
      }
      recorder.KeepExchanges(0, 0);
      recorder.BeginStep(kSteps);
      const size_t host_waits = device.context.records().host_waits.size();
      Step(*pool, device, blocks, kSteps);
      recorder.EndStep();
      EXPECT_EQ(device.context.records().host_waits.size(), host_waits) << "nothing is kept";
      device.context.Drain();
    });
    ASSERT_TRUE(exit_code == 0 && !testing::Test::HasFailure()) << NameOf(policy) << "; " << SeedText();
  }
}

}  // namespace
}  // namespace unipool
