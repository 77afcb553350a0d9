#include "launcher/plan/slowest_rank.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "runtime/errors.h"

namespace unipool {
namespace {

std::optional<SlowestStep> OfRecordedStep(const RecordedRun& traffic, int ranks, int64_t step) {
  if (static_cast<int>(traffic.files.size()) != ranks) return {};
  int64_t longest = 0;
  int slowest = 0, num_found = 0;
  for (const TrafficFile& file : traffic.files) {
    for (const StepRecord& record : file.steps) {
      if (record.step != step || record.begin_ns < 0 || record.end_ns < 0) continue;
      ++num_found;
      if (record.end_ns - record.begin_ns <= longest) continue;
      longest = record.end_ns - record.begin_ns;
      slowest = file.header.rank;
    }
  }
  if (num_found != ranks || longest <= 0) return {};
  return SlowestStep{.seconds = 1e-9 * static_cast<double>(longest),
                     .source = Format("the slowest rank (%d) of recorded step %d", slowest, step)};
}

// What the slowest rank of each window takes, as a multiple of rank 0's time.
std::optional<double> SlowestOverFirst(const RecordedRun& traffic, int ranks) {
  double longest = 0, first = 0;
  for (const RecordedWindow& window : traffic.windows) {
    if (static_cast<int>(window.ranks.size()) != ranks) return {};
    int64_t longest_ns = 0;
    for (const RankSums& sums : window.ranks) {
      if (sums.step_ns < 0) return {};
      longest_ns = std::max(longest_ns, sums.step_ns);
    }
    longest += static_cast<double>(longest_ns);
    first += static_cast<double>(window.ranks[0].step_ns);
  }
  if (first <= 0) return {};
  return longest / first;
}

}  // namespace

SlowestStep SlowestStepOf(const StepOfRun& asked, const RecordedRun* traffic) {
  if (asked.ranks == 1) return {.seconds = asked.first_rank_seconds, .source = "the only rank"};
  if (traffic && asked.is_emulated && asked.step > 0) {
    if (auto found = OfRecordedStep(*traffic, asked.ranks, asked.step)) return *found;
  }
  const std::optional<double> factor = traffic ? SlowestOverFirst(*traffic, asked.ranks) : std::nullopt;
  if (!factor) {
    return {.seconds = asked.first_rank_seconds,
            .source = "rank 0; nothing tells of the others (traffic.record)"};
  }
  return {.seconds = *factor * asked.first_rank_seconds,
          .source = Format("the slowest rank, %.3f times rank 0 by the windows of traffic/", *factor)};
}

}  // namespace unipool
