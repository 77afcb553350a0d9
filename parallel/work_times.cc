#include "parallel/work_times.h"

#include <cmath>

#include "runtime/range.h"

namespace unipool {

const char* NameOf(WorkKind kind) {
  constexpr const char* kNames[kNumWorkKinds] = {
      "attention and router", "their backward", "experts", "experts' input gradients",
      "weight gradients",     "head",           "rows",    "optimizer"};
  return kNames[static_cast<int>(kind)];
}

double WorkRate::UnitsPerSecond(double amount) const {
  if (points.empty()) return 0;
  if (amount <= points.front().amount) return points.front().units_per_second;
  for (size_t i = 1; i < points.size(); ++i) {
    const Point &a = points[i - 1], &b = points[i];
    if (amount > b.amount) continue;
    if (a.amount <= 0) return b.units_per_second;
    const double t = std::log(amount / a.amount) / std::log(b.amount / a.amount);
    return a.units_per_second + t * (b.units_per_second - a.units_per_second);
  }
  return points.back().units_per_second;
}

double WorkTimes::Seconds(WorkKind kind, double amount) const {
  if (amount <= 0) return 0;
  const WorkRate& of_kind = rate(kind);
  const double speed = of_kind.UnitsPerSecond(amount);
  return of_kind.fixed_seconds + (speed > 0 ? amount * units[static_cast<int>(kind)] / speed : 0);
}

double WorkTimes::Seconds(WorkKind kind, double amount, const WorkPart& part) const {
  if (part.begin >= part.end) return 0;
  if (part.share > 0) return part.share * Seconds(kind, amount);
  if (part.num_parts == 1) return Seconds(kind, amount);
  double share = 0;
  if (kind == WorkKind::kHead) {
    const int64_t chunks = EvenPartition(head_chunks, part.num_parts, part.end - 1).end -
                           EvenPartition(head_chunks, part.num_parts, part.begin).begin;
    share = static_cast<double>(chunks) / head_chunks;
  } else {
    for (int i = part.begin; i < part.end; ++i) share += i == 0 ? 2.0 / 3 : 1.0 / 3;
  }
  return share * Seconds(kind, amount);
}

}  // namespace unipool
