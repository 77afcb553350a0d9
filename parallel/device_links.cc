#include "parallel/device_links.h"

#include <unistd.h>

#include "parallel/nccl_communicator.h"
#include "parallel/staged_communicator.h"

namespace unipool {
namespace {

class StagedLinks : public DeviceLinks {
 public:
  explicit StagedLinks(std::shared_ptr<StagedTraffic> traffic) : traffic_(std::move(traffic)) {}
  std::unique_ptr<Communicator> Device(std::unique_ptr<Communicator> host) override {
    return MakeStagedCommunicator(std::move(host), traffic_);
  }
  std::unique_ptr<Communicator> Host(Communicator& host) override { return MakeHostGate(host, traffic_); }

 private:
  std::shared_ptr<StagedTraffic> traffic_;
};

class NcclLinks : public DeviceLinks {
 public:
  NcclLinks(int world_rank, std::shared_ptr<NcclTraffic> traffic)
      : world_rank_(world_rank), traffic_(std::move(traffic)) {}
  std::unique_ptr<Communicator> Device(std::unique_ptr<Communicator> host) override {
    return MakeNcclCommunicator(*host, world_rank_, traffic_);
  }
  // What travels by NCCL needs nothing of the host once it is launched.
  std::unique_ptr<Communicator> Host(Communicator& /*host*/) override { return nullptr; }

 private:
  int world_rank_;
  std::shared_ptr<NcclTraffic> traffic_;
};

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "?";
}

TransportFacts GatherFacts(const DeviceLinkOptions& options, const World& world) {
  const ExchangeLabel label{.operation = "choice of a transport", .step = -1, .slot = -1};
  const auto gather = [&](const std::string& text) { return world.communicator->AllGatherText(text, label); };
  const auto hosts = gather(HostName()), devices = gather(options.device_id),
             names = gather(options.device_name), problems = gather(NcclProblem());
  TransportFacts facts{.is_mpi = world.is_mpi, .ranks = {}};
  for (int r = 0; r < world.size(); ++r) {
    facts.ranks.push_back(
        {.host = hosts[r], .device = devices[r], .device_name = names[r], .nccl_problem = problems[r]});
  }
  return facts;
}

}  // namespace

ChosenLinks MakeDeviceLinks(const DeviceLinkOptions& options, const World& world,
                            const CommunicationDevice& device) {
  TransportChoice choice = ChooseTransport(options.requested, GatherFacts(options, world));
  switch (choice.kind) {
    case TransportKind::kMpi:
    case TransportKind::kThreads: {
      auto traffic = std::make_shared<StagedTraffic>(device, *world.communicator, *world.memory,
                                                     StagedOptions{.timeout = options.timeout});
      return {std::make_unique<StagedLinks>(std::move(traffic)), std::move(choice)};
    }
    case TransportKind::kNccl: {
      auto traffic = std::make_shared<NcclTraffic>(OpenNccl(), device, *world.communicator, options.timeout);
      choice.why += " (version " + NcclVersion() + ")";
      return {std::make_unique<NcclLinks>(world.rank(), std::move(traffic)), std::move(choice)};
    }
    case TransportKind::kAuto:
      break;
  }
  LOG(FATAL) << "a choice is never " << NameOf(choice.kind);
}

}  // namespace unipool
