// What the settings (configs/config.proto) mean in the words of the floors below. Every enum of the schema
// that a lower floor has under another name is converted here, by a switch without default. So a new value of
// the schema does not compile until it is named here.
#pragma once

#include "configs/config.pb.h"
#include "kernels/router_scores.h"
#include "models/compute_types.h"
#include "parallel/mesh.h"
#include "parallel/slot_executor.h"
#include "parallel/transport.h"
#include "runtime/stream.h"
#include "runtime/world.h"

namespace unipool {

// Where a run computes.
Device DeviceOf(const Config& config);
// The types that a run computes in. AUTO is BF16 on CUDA and F32 on the CPU. BF16 on the CPU is products of
// BF16 numbers between F32 activations (kernels/BF16_CPU.md).
ComputeTypes TypesOfConfig(const Config& config);
inline DType DTypeOfConfig(const Config& config) {  // of activations, and of what ranks exchange
  return TypesOfConfig(config).activations;
}
// Backward slots whose expert weight gradients are added up at once. 0 in the file: on CUDA 4 where nothing
// is known of the device's memory (models/size_choice.h); on the CPU 8 for BF16, where arithmetic is short
// beside the memory of gradients, and else 1.
int WeightGradSlots(const Config& config);
// Tokens whose logits may exist at once. 0 in the file: what OutputHead::MostTokens says where nothing is
// known of the device's memory.
int64_t HeadTokens(const Config& config);
// DispatcherOptions::pieces_alone. Lanes one after the other go whole: they are what overlap is compared
// with.
int PiecesAlone(const Config& config);

// Shadows that each rank has room for (parallel/shadow_placement.h); 0 where a pool has one rank.
int ShadowsPerRank(const Config& config, const MeshShape& shape);

RouterKind RouterKindOf(RouterType::Value type);
TransportKind TransportKindOf(Transport::Value transport);
LaneOrder LaneOrderOf(ParallelConfig::Lanes lanes);
// AUTO is kOn with CUDA: where device memory is staged, MPI's data would stand still while the rank waits for
// its device.
bool WantsProgressThread(const Config& config);

// Who is who among world_size ranks: what stages and replicas leave are data ranks. REQUIRES: it divides.
MeshShape MeshShapeOf(const ParallelConfig& parallel, int world_size);
// Microbatches of a rank in a pass of an evaluation, at most.
inline constexpr int64_t kPassMicrobatches = 16;
// Whether a run of these settings moves experts, or weights to their copies, between its steps.
bool MovesExperts(const Config& config, const MeshShape& shape);
// Microbatches that each rank runs in a step (B); at least 1.
int MicrobatchesPerRank(const Config& config, const MeshShape& shape);

}  // namespace unipool
