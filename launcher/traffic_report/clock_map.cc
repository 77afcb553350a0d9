#include "launcher/traffic_report/clock_map.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace unipool {
namespace {

std::vector<ComparedClocks> AllComparisons(const RecordedRun& folder) {
  std::vector<ComparedClocks> all = folder.manifest.comparisons;
  for (const TrafficFile& file : folder.files) {
    for (const ClockRecord& clock : file.clocks) {
      all.push_back({.rank = file.header.rank,
                     .reference = clock.reference,
                     .own_ns = clock.own_ns,
                     .offset_ns = clock.offset_ns,
                     .uncertainty_ns = clock.uncertainty_ns,
                     .num_probes = clock.num_probes});
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.own_ns != b.own_ns ? a.own_ns < b.own_ns : a.rank < b.rank;
  });
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

}  // namespace

ClockMap::ClockMap(const RecordedRun& folder) : domain_(folder.manifest.world, 0) {
  const RecordedManifest& manifest = folder.manifest;
  std::map<std::string, int> of_boot_id;
  for (int rank = 0; rank < manifest.world; ++rank) {
    // A rank that tells no boot_id has a clock of its own.
    std::string id = manifest.boot_id_of_rank[rank];
    if (id.empty()) id = "rank " + std::to_string(rank);
    if (manifest.clock == "virtual") id = "virtual";
    domain_[rank] = of_boot_id.try_emplace(id, static_cast<int>(of_boot_id.size())).first->second;
  }
  lines_.resize(of_boot_id.size());
  lines_[domain_[0]].is_known = true;
  for (const ComparedClocks& one : AllComparisons(folder)) {
    if (one.rank < 0 || one.rank >= manifest.world || one.reference < 0 || one.reference >= manifest.world)
      continue;
    // Only comparisons with rank 0's clock; a chain over a third clock is not followed.
    if (domain_[one.reference] != domain_[0] || domain_[one.rank] == domain_[0]) continue;
    Line& line = lines_[domain_[one.rank]];
    line.is_known = true;
    if (line.points.empty() || line.points.back().own_ns < one.own_ns) line.points.push_back(one);
  }
}

ClockMap::Offset ClockMap::OffsetAt(const Line& line, int64_t own_ns) const {
  if (line.points.empty()) return {};
  const auto next = std::upper_bound(line.points.begin(), line.points.end(), own_ns,
                                     [](int64_t ns, const ComparedClocks& p) { return ns < p.own_ns; });
  const size_t after = next - line.points.begin(), count = line.points.size();
  if (count == 1) {
    const ComparedClocks& only = line.points[0];
    const auto away = static_cast<double>(std::abs(own_ns - only.own_ns));
    return {static_cast<double>(only.offset_ns),
            static_cast<double>(only.uncertainty_ns) + kUnknownDrift * away};
  }
  const size_t begin = after == 0 ? 0 : std::min(after - 1, count - 2);
  const ComparedClocks &a = line.points[begin], &b = line.points[begin + 1];
  const auto length = static_cast<double>(b.own_ns - a.own_ns);
  const double place = static_cast<double>(own_ns - a.own_ns) / length;
  const auto from = static_cast<double>(a.uncertainty_ns), to = static_cast<double>(b.uncertainty_ns);
  Offset offset{
      .ns = static_cast<double>(a.offset_ns) + static_cast<double>(b.offset_ns - a.offset_ns) * place,
      .uncertainty_ns = std::abs(1 - place) * from + std::abs(place) * to};
  return offset;
}

int64_t ClockMap::Common(int rank, int64_t ns) const {
  if (ns == -1) return -1;
  return ns + std::llround(OffsetAt(lines_[domain_[rank]], ns).ns);
}

int64_t ClockMap::UncertaintyNs(int rank, int64_t ns) const {
  return std::llround(std::ceil(OffsetAt(lines_[domain_[rank]], ns).uncertainty_ns));
}

int64_t ClockMap::UncertaintyBetween(int a, int b, int64_t common_ns) const {
  if (Share(a, b)) return 0;
  int64_t sum = 0;
  for (const int rank : {a, b}) {
    const Line& line = lines_[domain_[rank]];
    if (line.points.empty()) continue;
    sum += UncertaintyNs(rank, common_ns - line.points.front().offset_ns);
  }
  return sum;
}

double ClockMap::LargestOffsetSeconds() const {
  double largest = 0;
  for (const Line& line : lines_) {
    for (const ComparedClocks& point : line.points)
      largest = std::max(largest, std::abs(1e-9 * static_cast<double>(point.offset_ns)));
  }
  return largest;
}

double ClockMap::LargestDrift() const {
  double largest = 0;
  for (const Line& line : lines_) {
    if (line.points.size() < 2) continue;
    const ComparedClocks &a = line.points.front(), &b = line.points.back();
    largest = std::max(largest, std::abs(static_cast<double>(b.offset_ns - a.offset_ns) /
                                         static_cast<double>(b.own_ns - a.own_ns)));
  }
  return largest;
}

}  // namespace unipool
