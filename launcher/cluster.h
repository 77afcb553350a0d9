// Descriptions of clusters to emulate (parallel.emulate).
#pragma once

#include <string>

#include "configs/cluster.pb.h"
#include "runtime/cluster_description.h"

namespace unipool {

// Reads a file in the text format of configs/cluster.proto. Throws UserError that names file, field and
// remedy.
ClusterDescription LoadCluster(const std::string& path);

}  // namespace unipool
