// Predicts the memory of a rank by kind from the settings alone, before a run: the same arrays that the
// engine takes, with the number of live ones found by walking the slot schedule. Routing is taken as even; a
// rank that receives more rows than its share takes more, and one that moves experts up to 16 MiB more
// (parallel/expert_move.h). Held against the measured peak by a test.
#pragma once

#include <array>

#include "configs/config.pb.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "runtime/buffer.h"

namespace unipool {

struct MemoryPlan {
  std::array<int64_t, kNumMemoryKinds> bytes{};
  int64_t& operator[](MemoryKind kind) { return bytes[static_cast<int>(kind)]; }
  int64_t operator[](MemoryKind kind) const { return bytes[static_cast<int>(kind)]; }
  int64_t total() const;
};

// Peak while training. REQUIRES: the configuration is valid for shape.world() ranks.
MemoryPlan PlanMemory(const Config& config, const MeshShape& shape, int rank);

// Most (microbatch, layer) activations a stage holds at once, and most forward slots whose rows an owner
// keeps.
int64_t MostSavedLayers(const SlotSchedule& schedule, int stage);
int64_t MostStashedSlots(const SlotSchedule& schedule, const MeshShape& shape, int stage);

}  // namespace unipool
