// Moves what belongs to experts (weights, moments) from their owners in one placement to those in another,
// between steps. Knows rows of bytes, and nothing of what they are.
#pragma once

#include <span>

#include "parallel/expert_placement.h"
#include "runtime/buffer.h"
#include "runtime/communicator.h"
#include "runtime/stream.h"

namespace unipool {

// Default of MoveExperts' staging memory.
inline constexpr int64_t kMoveStagingBytes = int64_t{16} << 20;

// `arrays`: row e of each belongs to this rank's e-th expert, [E, ...]; before in the order of
// `from`.experts_of(rank), afterwards in that of `to`. Rows that stay on the rank change place without
// travelling. An expert's row crosses the wire once, to its new owner. Extra memory: rows are cut into pieces
// of columns, so that one piece of all local rows fits into staging_bytes (of 64 bytes a row at least), which
// is counted as MemoryKind::kExchange and given back. Arrays and staging lie on the stream's device; `memory`
// counts there. Collective over `pool`: all ranks pass arrays of the
// same row sizes. REQUIRES: both placements give each rank equally many experts. Returns the bytes that this
// rank sent.
int64_t MoveExperts(Communicator& pool, const ExpertPlacement& from, const ExpertPlacement& to,
                    std::span<const Tensor> arrays, int64_t step, Stream& stream, MemoryMeter& memory,
                    int64_t staging_bytes = kMoveStagingBytes);

}  // namespace unipool
