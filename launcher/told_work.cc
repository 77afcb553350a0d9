#include "launcher/told_work.h"

#include <utility>

#include "launcher/cluster.h"
#include "runtime/emulated_communicator.h"

namespace unipool {
namespace {

class ToldWork : public WorkMeter {
 public:
  ToldWork(EmulatedRank& rank, WorkTimes times) : rank_(rank), times_(std::move(times)) {}
  void End(WorkKind kind, double amount, const WorkPart& part) override {
    rank_.Work(times_.Seconds(kind, amount, part));
  }

 private:
  EmulatedRank& rank_;
  const WorkTimes times_;
};

}  // namespace

std::unique_ptr<WorkMeter> TellWork(const Config& config, World& world) {
  if (!world.emulation || config.parallel().emulate().empty()) return nullptr;
  const Cluster cluster = LoadClusterFile(config.parallel().emulate());
  if (!cluster.description.work_is_told) return nullptr;
  return std::make_unique<ToldWork>(*world.emulation, WorkTimesOf(config, cluster.rates));
}

}  // namespace unipool
