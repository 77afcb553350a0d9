#include "parallel/row_segments.h"

namespace unipool {

RowSegments::RowSegments(Stream& stream, int64_t row_bytes, int64_t max_segments)
    : stream_(stream), row_bytes_(row_bytes) {
  segments_.reserve(max_segments);
}

// make(source, byte offset in the source's rows, byte offset in the batch, bytes) for each segment that has
// rows.
template <class Make>
void RowSegments::CopyAll(const OwnerPlan& plan, Range experts, Make make) {
  segments_.clear();
  for (int source = 0; source < plan.num_ranks; ++source) {
    const int64_t first = int64_t{source} * plan.num_experts;
    for (int64_t i = first + experts.begin; i < first + experts.end; ++i) {
      if (plan.rows[i] == 0) continue;
      segments_.push_back(make(source, plan.first_source_row[i] * row_bytes_,
                               plan.first_expert_row[i] * row_bytes_, plan.rows[i] * row_bytes_));
    }
  }
  CopySegments(stream_, segments_);
}

void RowSegments::Gather(const OwnerPlan& plan, Range experts, std::span<char* const> sources, void* batch) {
  CopyAll(plan, experts, [&](int source, int64_t from, int64_t to, int64_t bytes) {
    return Segment{sources[source] + from, static_cast<char*>(batch) + to, bytes};
  });
}

void RowSegments::Scatter(const OwnerPlan& plan, Range experts, const void* batch,
                          std::span<char* const> sources) {
  CopyAll(plan, experts, [&](int source, int64_t to, int64_t from, int64_t bytes) {
    return Segment{static_cast<const char*>(batch) + from, sources[source] + to, bytes};
  });
}

}  // namespace unipool
