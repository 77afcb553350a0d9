#include "parallel/work_times.h"

#include <algorithm>
#include <cmath>

#include "runtime/range.h"

namespace unipool {

const char* NameOf(WorkKind kind) {
  constexpr const char* kNames[kNumWorkKinds] = {
      "attention and router", "their backward", "experts", "experts' input gradients",
      "weight gradients",     "head",           "rows",    "optimizer"};
  return kNames[static_cast<int>(kind)];
}

double WorkRate::At(double amount, double Point::*number) const {
  if (points.empty()) return 0;
  if (amount <= points.front().amount) return points.front().*number;
  for (size_t i = 1; i < points.size(); ++i) {
    const Point &a = points[i - 1], &b = points[i];
    if (amount > b.amount) continue;
    if (a.amount <= 0) return b.*number;
    const double t = std::log(amount / a.amount) / std::log(b.amount / a.amount);
    return a.*number + t * (b.*number - a.*number);
  }
  return points.back().*number;
}

double WorkTimes::Seconds(WorkKind kind, double amount) const {
  if (amount <= 0) return 0;
  const WorkRate& of_kind = rate(kind);
  const double speed = of_kind.UnitsPerSecond(amount);
  return of_kind.fixed_seconds + (speed > 0 ? amount * units[static_cast<int>(kind)] / speed : 0);
}

double WorkTimes::Seconds(WorkKind kind, double amount, const WorkPart& part) const {
  if (part.begin >= part.end || amount <= 0) return 0;
  const double whole =
      Seconds(kind, amount) + rate(kind).ExpertSeconds(amount) * std::max(0.0, part.experts - 1);
  if (part.share > 0) return part.share * whole;
  if (part.num_parts == 1) return whole;
  double share = 0;
  if (kind == WorkKind::kHead) {
    const int64_t chunks = EvenPartition(head_chunks, part.num_parts, part.end - 1).end -
                           EvenPartition(head_chunks, part.num_parts, part.begin).begin;
    share = static_cast<double>(chunks) / head_chunks;
  } else {
    for (int i = part.begin; i < part.end; ++i) share += i == 0 ? 2.0 / 3 : 1.0 / 3;
  }
  return share * whole;
}

}  // namespace unipool
