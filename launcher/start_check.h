// What all ranks look at together before a run's first step, and what would else show late or never. Each is
// collective and throws the same UserError on all ranks.
#pragma once

#include <string>

#include "configs/config.pb.h"
#include "runtime/world.h"

namespace unipool {

// All of the below.
void CheckStart(const Config& config, World& world);

// Ranks of an MPI job were started with the same settings.
void CheckSameSettings(const Config& config, World& world);

// Ranks of an MPI job see the same data: files by name, size and the hash of blocks spread over each.
void CheckSameData(const Config& config, World& world);

// Ranks of an MPI job see the same run_dir: rank 0 writes a small file there for a moment.
void CheckSharedFolder(const std::string& run_dir, World& world);

// The predicted memory of the ranks on each host fits what the host, the job and the process may have.
void CheckMemory(const Config& config, World& world);

}  // namespace unipool
