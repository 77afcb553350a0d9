#include "parallel/row_segments.h"

#include <cstring>

namespace unipool {

namespace {

// copy(source, byte offset in the source's rows, byte offset in the batch, bytes) for each segment that has
// rows.
template <class Copy>
void ForEachSegment(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, Copy copy) {
  KernelScope scope(stream, Op::kPermute, 0, 2.0 * static_cast<double>(plan.num_rows * row_bytes));
  for (int source = 0; source < plan.num_ranks; ++source) {
    for (int i = source * plan.num_experts; i < (source + 1) * plan.num_experts; ++i) {
      if (plan.rows[i] == 0) continue;
      copy(source, plan.first_source_row[i] * row_bytes, plan.first_expert_row[i] * row_bytes,
           plan.rows[i] * row_bytes);
    }
  }
}

}  // namespace

void GatherSegments(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, std::span<char* const> sources,
                    void* batch) {
  ForEachSegment(stream, plan, row_bytes, [&](int source, int64_t from, int64_t to, int64_t bytes) {
    std::memcpy(static_cast<char*>(batch) + to, sources[source] + from, bytes);
  });
}

void ScatterSegments(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, const void* batch,
                     std::span<char* const> sources) {
  ForEachSegment(stream, plan, row_bytes, [&](int source, int64_t to, int64_t from, int64_t bytes) {
    std::memcpy(sources[source] + to, static_cast<const char*>(batch) + from, bytes);
  });
}

}  // namespace unipool
