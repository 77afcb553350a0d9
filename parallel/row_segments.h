// Between the rows of each source and the batches of each expert, on one device: copies of whole segments.
#pragma once

#include <span>
#include <vector>

#include "kernels/copy_segments.h"
#include "parallel/dispatch_plan.h"

namespace unipool {

// sources[q] is where the rows of source q begin (unused where it has none); `batch` is [R, row_bytes],
// expert-major. Each moves 2 * R * row_bytes. `segments` gives the memory for the list of at most W * E.
void GatherSegments(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, std::span<char* const> sources,
                    void* batch, std::vector<Segment>& segments);
// The inverse.
void ScatterSegments(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, const void* batch,
                     std::span<char* const> sources, std::vector<Segment>& segments);

}  // namespace unipool
