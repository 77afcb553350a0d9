// Descriptions of clusters (configs/cluster.proto): for emulation (parallel.emulate) and for `plan`, and
// where each of their numbers is from.
#pragma once

#include <string>
#include <vector>

#include "configs/cluster.pb.h"
#include "configs/config.pb.h"
#include "models/step_plan.h"
#include "runtime/cluster_description.h"
#include "runtime/world.h"

namespace unipool {

// A number of the file.
struct ClusterNumber {
  std::string field;  // "inter_node.latency_us", "processor.work[3].rate[1].giga_per_second"
  double value = 0;
  Tag::Value tag = Tag::ASSUMED;
  std::string source, date;
  double spread = 0;
};

struct Cluster {
  std::string path;
  ClusterConfig config;
  ClusterDescription description;
  WorkRates rates;
  // All that the file gives, in its order. `noise` is among them where it is assumed: the file does not give
  // it, and not all its numbers are MEASURED.
  std::vector<ClusterNumber> numbers;
  // The least sure of the tags of numbers below `field` ("": of all): ASSUMED, SPEC, RECORDED, MEASURED.
  Tag::Value TagOf(const std::string& field) const;
};

// Reads a file in the text format of configs/cluster.proto. Throws UserError that names file, field and
// remedy: a number out of its range, a field that nothing reads beside the others of the file, an origin of
// no field.
Cluster LoadClusterFile(const std::string& path);
ClusterDescription LoadCluster(const std::string& path);  // for emulation alone

// Throws UserError unless the file says all that a plan for so many ranks needs: wires between ranks that
// there are, with bandwidth; nodes enough; a rate for each kind of work.
void CheckForPlan(const Cluster& cluster, int ranks);

// The node of each rank: hosts numbered in the order of their first ranks, or those of the emulated cluster.
std::vector<int> NodesOf(const Config& config, const World& world);

}  // namespace unipool
