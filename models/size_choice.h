// Sizes that the settings leave open and the memory of devices decides, where ranks compute on devices:
//   - how many backward slots' expert weight gradients are added up at once. More slots a bank read and write
//     the pool's gradients less often, and keep more rows (models/weight_grad_banks.h).
//   - of how many tokens logits exist at once. More tokens read and write the gradient of the head's weight
//     less often (models/output_head.h).
// Other sizes sum in another order on a device: losses of two sizes of memory may differ in their last bits.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "parallel/mesh.h"
#include "runtime/device_context.h"
#include "runtime/world.h"

namespace unipool {

inline constexpr std::array<int, 3> kSlotsToTry = {12, 8, 4};
// Numbers of logits. cuBLAS and our kernels take 2^31 at most.
inline constexpr std::array<int64_t, 3> kLogitsToTry = {1 << 30, 1 << 29, 1 << 28};
// Share of a device that stays free of our arrays: CUDA, cuBLAS and NCCL hold some of it, and routing may be
// less even than planned.
inline constexpr double kFreeShare = 0.1;

// What one rank needs and has.
struct SizeNeed {
  std::string device;        // ranks with equal names share one
  int64_t device_bytes = 0;  // all of its memory; 0: not known
  // Planned with each of kSlotsToTry and the fewest logits.
  std::array<int64_t, kSlotsToTry.size()> rank_bytes{};
  // What each of kLogitsToTry takes beside these.
  std::array<int64_t, kLogitsToTry.size()> more_bytes{};
};

struct FittingSizes {
  int slots = 0;       // one of kSlotsToTry
  int64_t logits = 0;  // one of kLogitsToTry
  bool operator==(const FittingSizes&) const = default;
};

// The most slots with which the ranks of every device together leave kFreeShare of it, and then the most
// logits: slots save more time. The last ones where none does, or where the memory of some device is not
// known. REQUIRES: one entry or more.
FittingSizes SizesThatFit(const std::vector<SizeNeed>& ranks);

// What a run has: the settings, or the choice in their place.
struct DeviceSizes {
  int weight_grad_slots = 1;
  int64_t head_tokens = 1;
};

// True where a choice is to be made: device CUDA, and train.weight_grad_slots or train.head_tokens is 0.
bool LeavesSizesOpen(const Config& config);

// The same settings with the choice in them, for ranks that each have a device of device_bytes; unchanged
// where nothing is open or device_bytes is 0. REQUIRES: the configuration is valid for shape.world() ranks.
Config WithSizesFor(const Config& config, const MeshShape& shape, int64_t device_bytes);

// Sizes of a training run, equal on all ranks. Collective over the world where the choice is open. `device`
// is this rank's; null: the CPU.
DeviceSizes ChooseSizes(const Config& config, World& world, const DeviceContext* device);

}  // namespace unipool
