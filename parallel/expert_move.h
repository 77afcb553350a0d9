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

// `arrays`, [E, ...] each: row e belongs to this rank's e-th expert, before in the order of
// from.experts_of(rank), afterwards in the order of to.experts_of(rank). An expert's row crosses the wire
// once, to its new owner. Rows that stay on the rank change place without travelling.
// Extra memory: rows are cut into pieces of columns, so that one piece of all local rows fits into
// staging_bytes. A piece has at least 64 bytes of a row. Staging memory is counted as MemoryKind::kExchange
// and given back. Arrays and staging are on the stream's device, where `memory` counts.
// Collective over `pool`: all ranks pass arrays of the same row sizes. REQUIRES: a rank has as many experts
// in `to` as in `from`. Returns the bytes that this rank sent.
int64_t MoveExperts(Communicator& pool, const ExpertPlacement& from, const ExpertPlacement& to,
                    std::span<const Tensor> arrays, int64_t step, Stream& stream, MemoryMeter& memory,
                    int64_t staging_bytes = kMoveStagingBytes);

}  // namespace unipool
