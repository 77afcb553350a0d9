// How many backward slots' expert weight gradients are added up at once where the settings leave it open and
// ranks compute on devices. More slots a bank read and write the pool's gradients less often, and keep more
// rows (models/weight_grad_banks.h). So the choice goes by memory. Sums over other slots round differently on
// a device: losses of two sizes of memory may differ in their last bits.
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
// Share of a device that stays free of our arrays: CUDA, cuBLAS and NCCL hold some of it, and routing may be
// less even than planned.
inline constexpr double kFreeShare = 0.1;

// What one rank needs and has.
struct SlotNeed {
  std::string device;                                    // ranks with equal names share one
  int64_t device_bytes = 0;                              // all of its memory; 0: not known
  std::array<int64_t, kSlotsToTry.size()> rank_bytes{};  // planned with each of kSlotsToTry
};

// The most of kSlotsToTry with which the ranks of every device together leave kFreeShare of it; the last one
// where none does, or where the memory of some device is not known. REQUIRES: one entry or more.
int SlotsThatFit(const std::vector<SlotNeed>& ranks);

// True where the choice is to be made: device CUDA, and train.weight_grad_slots is 0.
bool LeavesSlotsOpen(const Config& config);

// The same settings with the choice in train.weight_grad_slots, for ranks that each have a device of
// device_bytes; unchanged where it is not open or device_bytes is 0. REQUIRES: the configuration is valid for
// shape.world() ranks.
Config WithSlotsFor(const Config& config, const MeshShape& shape, int64_t device_bytes);

// WeightGradSlots of a run, equal on all ranks. Collective over the world where the choice is open. `device`
// is this rank's; null: the CPU.
int ChooseWeightGradSlots(const Config& config, World& world, const DeviceContext* device);

}  // namespace unipool
