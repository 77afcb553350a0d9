#include "launcher/cluster.h"

#include <cmath>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// Beyond these no report can be read.
constexpr double kMost = 1e9, kLeastScale = 1e-9, kMostScale = 1e9;

WireDescription WireOf(const WireConfig& wire) {
  return {.latency_seconds = 1e-6 * wire.latency_us(), .bytes_per_second = 1e9 * wire.gigabytes_per_second()};
}

}  // namespace

ClusterDescription LoadCluster(const std::string& path) {
  ClusterConfig config;
  LoadText(path, config);
  Problems problems;
  const auto check = [&](const char* field, double value, bool is_right, const char* right) {
    if (is_right && std::isfinite(value)) return;
    problems.Add(Format("%s: %s: is %g; must %s", path.c_str(), field, value, right));
  };
  check("ranks_per_node", config.ranks_per_node(), config.ranks_per_node() >= 0,
        "be at least 1, or 0 for one node");
  check("compute_scale", config.compute_scale(),
        config.compute_scale() >= kLeastScale && config.compute_scale() <= kMostScale,
        "lie between 1e-9 and 1e9");
  const auto check_wire = [&](const std::string& name, const WireConfig& wire) {
    const auto in_range = [&](const char* field, double value) {
      check((name + field).c_str(), value, value >= 0 && value <= kMost, "lie between 0 and 1e9");
    };
    in_range(".latency_us", wire.latency_us());
    in_range(".gigabytes_per_second", wire.gigabytes_per_second());
  };
  check_wire("intra_node", config.intra_node());
  check_wire("inter_node", config.inter_node());
  problems.ThrowIfAny();
  return {.ranks_per_node = config.ranks_per_node(),
          .intra_node = WireOf(config.intra_node()),
          .inter_node = WireOf(config.inter_node()),
          .compute_scale = config.compute_scale()};
}

}  // namespace unipool
