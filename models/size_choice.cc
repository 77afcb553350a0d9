#include "models/size_choice.h"

#include <map>
#include <sstream>

#include "models/memory_plan.h"
#include "models/output_head.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

// As `info` plans the first steps, where routing is least even.
constexpr double kEarlyImbalance = 2;

bool LeavesSlotsOpen(const Config& config) {
  return DeviceOf(config) == Device::kCuda && config.train().weight_grad_slots() == 0;
}
bool LeavesHeadOpen(const Config& config) {
  return DeviceOf(config) == Device::kCuda && config.train().head_tokens() == 0;
}

// With several stages the head's work is spread over slots in whole chunks, and small ones spread better.
bool MayHaveMoreLogits(const Config& config, const MeshShape& shape) {
  return LeavesHeadOpen(config) && shape.stages == 1;
}

Config With(const Config& config, const MeshShape& shape, const FittingSizes& sizes) {
  Config with = config;
  if (LeavesSlotsOpen(config)) with.mutable_train()->set_weight_grad_slots(sizes.slots);
  if (MayHaveMoreLogits(config, shape)) {
    const int64_t tokens =
        OutputHead::MostTokens(PaddedVocab(config.model()), sizes.logits, DeviceOf(config));
    with.mutable_train()->set_head_tokens(static_cast<int>(tokens));
  }
  return with;
}

SizeNeed NeedOf(const Config& config, const MeshShape& shape, int rank, std::string device,
                int64_t device_bytes) {
  SizeNeed need{.device = std::move(device), .device_bytes = device_bytes};
  const Config resolved = WithChoices(config, shape);
  const auto planned = [&](int slots, int64_t logits) {
    return PlanMemory(With(resolved, shape, {slots, logits}), shape, rank, kEarlyImbalance).total();
  };
  need.rank_bytes.fill(planned(kSlotsToTry.back(), kLogitsToTry.back()));
  if (LeavesSlotsOpen(config)) {
    for (size_t i = 0; i + 1 < kSlotsToTry.size(); ++i)
      need.rank_bytes[i] = planned(kSlotsToTry[i], kLogitsToTry.back());
  }
  if (!MayHaveMoreLogits(config, shape)) return need;
  for (size_t i = 0; i + 1 < kLogitsToTry.size(); ++i) {
    need.more_bytes[i] = planned(kSlotsToTry.back(), kLogitsToTry[i]) - need.rank_bytes.back();
  }
  return need;
}

// A line of numbers, and then the name, which may have blanks.
std::string TextOf(const SizeNeed& need) {
  std::string text = std::to_string(need.device_bytes);
  for (const int64_t bytes : need.rank_bytes) text += ' ' + std::to_string(bytes);
  for (const int64_t bytes : need.more_bytes) text += ' ' + std::to_string(bytes);
  return text + ' ' + need.device;
}

SizeNeed NeedOfText(const std::string& text) {
  SizeNeed need;
  std::istringstream stream(text);
  stream >> need.device_bytes;
  for (int64_t& bytes : need.rank_bytes) stream >> bytes;
  for (int64_t& bytes : need.more_bytes) stream >> bytes;
  CHECK(stream) << "'" << text << "' is not what a rank needs";
  std::getline(stream, need.device);
  return need;
}

bool Fits(const std::vector<SizeNeed>& ranks, size_t slots, size_t logits) {
  std::map<std::string, int64_t> taken;
  for (const SizeNeed& rank : ranks) taken[rank.device] += rank.rank_bytes[slots] + rank.more_bytes[logits];
  for (const SizeNeed& rank : ranks) {
    const double room = (1 - kFreeShare) * static_cast<double>(rank.device_bytes);
    if (static_cast<double>(taken[rank.device]) > room) return false;
  }
  return true;
}

}  // namespace

FittingSizes SizesThatFit(const std::vector<SizeNeed>& ranks) {
  CHECK(!ranks.empty());
  constexpr size_t kFewestLogits = kLogitsToTry.size() - 1;
  size_t slots = 0, logits = 0;
  while (slots + 1 < kSlotsToTry.size() && !Fits(ranks, slots, kFewestLogits)) ++slots;
  while (logits < kFewestLogits && !Fits(ranks, slots, logits)) ++logits;
  return {kSlotsToTry[slots], kLogitsToTry[logits]};
}

bool LeavesSizesOpen(const Config& config) {
  return LeavesSlotsOpen(config) || LeavesHeadOpen(config);
}

Config WithSizesFor(const Config& config, const MeshShape& shape, int64_t device_bytes) {
  if (!LeavesSizesOpen(config) || device_bytes == 0) return config;
  std::vector<SizeNeed> ranks;
  for (int stage = 0; stage < shape.stages; ++stage) {
    const int rank = RankOf(shape, {.stage = stage});  // no other rank of the stage has more experts
    ranks.push_back(NeedOf(config, shape, rank, std::to_string(rank), device_bytes));
  }
  return With(config, shape, SizesThatFit(ranks));
}

DeviceSizes ChooseSizes(const Config& config, World& world, const DeviceContext* device) {
  const auto sizes_of = [](const Config& with) {
    return DeviceSizes{.weight_grad_slots = WeightGradSlots(with), .head_tokens = HeadTokens(with)};
  };
  if (!LeavesSizesOpen(config)) return sizes_of(config);
  const MeshShape shape = MeshShapeOf(config.parallel(), world.size());
  const SizeNeed own =
      NeedOf(config, shape, world.rank(), HostName() + ' ' + device->id(), device->total_bytes());
  std::vector<SizeNeed> ranks;
  for (const std::string& text : world.communicator->AllGatherText(
           TextOf(own), {.operation = "memory of devices", .step = -1, .slot = -1})) {
    ranks.push_back(NeedOfText(text));
  }
  return sizes_of(With(config, shape, SizesThatFit(ranks)));
}

}  // namespace unipool
