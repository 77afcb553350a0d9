#include "models/slot_choice.h"

#include <map>
#include <sstream>

#include "models/memory_plan.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

// As `info` plans the first steps, where routing is least even.
constexpr double kEarlyImbalance = 2;

SlotNeed NeedOf(const Config& config, const MeshShape& shape, int rank, std::string device,
                int64_t device_bytes) {
  SlotNeed need{.device = std::move(device), .device_bytes = device_bytes};
  Config with = WithChoices(config, shape);
  for (size_t i = 0; i < kSlotsToTry.size(); ++i) {
    with.mutable_train()->set_weight_grad_slots(kSlotsToTry[i]);
    need.rank_bytes[i] = PlanMemory(with, shape, rank, kEarlyImbalance).total();
  }
  return need;
}

// A line of numbers, and then the name, which may have blanks.
std::string TextOf(const SlotNeed& need) {
  std::string text = std::to_string(need.device_bytes);
  for (const int64_t bytes : need.rank_bytes) text += ' ' + std::to_string(bytes);
  return text + ' ' + need.device;
}

SlotNeed NeedOfText(const std::string& text) {
  SlotNeed need;
  std::istringstream stream(text);
  stream >> need.device_bytes;
  for (int64_t& bytes : need.rank_bytes) stream >> bytes;
  CHECK(stream) << "'" << text << "' is not what a rank needs";
  std::getline(stream, need.device);
  return need;
}

}  // namespace

int SlotsThatFit(const std::vector<SlotNeed>& ranks) {
  CHECK(!ranks.empty());
  for (size_t i = 0; i < kSlotsToTry.size(); ++i) {
    std::map<std::string, int64_t> taken;
    for (const SlotNeed& rank : ranks) taken[rank.device] += rank.rank_bytes[i];
    bool fits = true;
    for (const SlotNeed& rank : ranks) {
      const double room = (1 - kFreeShare) * static_cast<double>(rank.device_bytes);
      fits = fits && static_cast<double>(taken[rank.device]) <= room;
    }
    if (fits) return kSlotsToTry[i];
  }
  return kSlotsToTry.back();
}

bool LeavesSlotsOpen(const Config& config) {
  return DeviceOf(config) == Device::kCuda && config.train().weight_grad_slots() == 0;
}

Config WithSlotsFor(const Config& config, const MeshShape& shape, int64_t device_bytes) {
  Config chosen = config;
  if (!LeavesSlotsOpen(config) || device_bytes == 0) return chosen;
  std::vector<SlotNeed> ranks;
  for (int stage = 0; stage < shape.stages; ++stage) {
    const int rank = RankOf(shape, {.stage = stage});  // no other rank of the stage has more experts
    ranks.push_back(NeedOf(config, shape, rank, std::to_string(rank), device_bytes));
  }
  chosen.mutable_train()->set_weight_grad_slots(SlotsThatFit(ranks));
  return chosen;
}

int ChooseWeightGradSlots(const Config& config, World& world, const DeviceContext* device) {
  if (!LeavesSlotsOpen(config)) return WeightGradSlots(config);
  const MeshShape shape = MeshShapeOf(config.parallel(), world.size());
  const SlotNeed own =
      NeedOf(config, shape, world.rank(), HostName() + ' ' + device->id(), device->total_bytes());
  std::vector<SlotNeed> ranks;
  for (const std::string& text : world.communicator->AllGatherText(
           TextOf(own), {.operation = "memory of devices", .step = -1, .slot = -1})) {
    ranks.push_back(NeedOfText(text));
  }
  return SlotsThatFit(ranks);
}

}  // namespace unipool
