#include "parallel/row_segments.h"

namespace unipool {

namespace {

// make(source, byte offset in the source's rows, byte offset in the batch, bytes) for each segment that has
// rows.
template <class Make>
void CopyAll(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, std::vector<Segment>& segments,
             Make make) {
  segments.clear();
  for (int source = 0; source < plan.num_ranks; ++source) {
    for (int i = source * plan.num_experts; i < (source + 1) * plan.num_experts; ++i) {
      if (plan.rows[i] == 0) continue;
      segments.push_back(make(source, plan.first_source_row[i] * row_bytes,
                              plan.first_expert_row[i] * row_bytes, plan.rows[i] * row_bytes));
    }
  }
  CopySegments(stream, segments);
}

}  // namespace

void GatherSegments(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, std::span<char* const> sources,
                    void* batch, std::vector<Segment>& segments) {
  CopyAll(stream, plan, row_bytes, segments, [&](int source, int64_t from, int64_t to, int64_t bytes) {
    return Segment{sources[source] + from, static_cast<char*>(batch) + to, bytes};
  });
}

void ScatterSegments(Stream& stream, const OwnerPlan& plan, int64_t row_bytes, const void* batch,
                     std::span<char* const> sources, std::vector<Segment>& segments) {
  CopyAll(stream, plan, row_bytes, segments, [&](int source, int64_t to, int64_t from, int64_t bytes) {
    return Segment{static_cast<const char*>(batch) + from, sources[source] + to, bytes};
  });
}

}  // namespace unipool
