#include "runtime/cluster_description.h"

#include <algorithm>
#include <cmath>

namespace unipool {

double WireDescription::ShareOf(int peers, double bytes) const {
  const auto distance = [](double a, double b) {
    return std::abs(std::log(std::max(a, 1.0) / std::max(b, 1.0)));
  };
  const WireShare* nearest = nullptr;
  double of_peers = 0, of_bytes = 0;
  for (const WireShare& entry : shares) {
    const double p = distance(entry.peers, peers), b = distance(entry.bytes, bytes);
    if (nearest && (p > of_peers || (p == of_peers && b >= of_bytes))) continue;
    nearest = &entry;
    of_peers = p;
    of_bytes = b;
  }
  return nearest ? nearest->share : 1;
}

}  // namespace unipool
