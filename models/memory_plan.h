// Predicts the memory of a rank by kind from the settings alone, before a run. It counts the arrays that the
// engine takes, and walks the slot schedule to find how many of them are alive at once.
// Routing cannot be predicted, so the caller says how many rows reach the rank in every slot (`imbalance`).
// Early in training they are uneven, later nearly even. Memory once taken is kept. What any run may be asked
// for has its room: a checkpoint (a signal, a file `save`), whose loss is a forward that keeps nothing; and
// with its settings validations and experts that move. A test holds all this against the measured peak.
#pragma once

#include <limits>

#include "configs/config.pb.h"
#include "parallel/held_rows.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"
#include "runtime/buffer.h"

namespace unipool {

// Predicted bytes by MemoryKind.
class MemoryPlan {
 public:
  int64_t& operator[](MemoryKind kind) { return bytes_[static_cast<int>(kind)]; }
  int64_t operator[](MemoryKind kind) const { return bytes_[static_cast<int>(kind)]; }
  const MemoryParts& parts() const { return bytes_; }
  int64_t total() const;

 private:
  MemoryParts bytes_{};
};

// Rows that a rank receives in every slot / its even share, which goes by the experts it owns.
inline constexpr double kEvenRouting = 1;
inline constexpr double kAllRowsHere = std::numeric_limits<double>::infinity();  // the worst case

// Peak while training. REQUIRES: the configuration is valid for shape.world() ranks; imbalance >= 0.
MemoryPlan PlanMemory(const Config& config, const MeshShape& shape, int rank,
                      double imbalance = kEvenRouting);
// The same with the rows that a run has counted (HeldRowsMeter), or that are guessed.
MemoryPlan PlanMemory(const Config& config, const MeshShape& shape, int rank, const HeldRows& rows);

// Elements of the flat array of a stage's dense parameters, with the padding between them; and of the weight
// of a spread head, which is an array by itself and 0 where the head is not spread.
int64_t DenseElements(const Config& config, const MeshShape& shape, int stage);
int64_t SpreadHeadElements(const Config& config, const MeshShape& shape);

// Most (microbatch, layer) activations a stage holds at once, and most forward slots whose rows an owner
// keeps.
int64_t MostSavedLayers(const SlotSchedule& schedule, int stage);
int64_t MostStashedSlots(const SlotSchedule& schedule, const MeshShape& shape, int stage);

}  // namespace unipool
