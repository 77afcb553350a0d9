// Starts the ranks of a job: as threads of this process, or as the processes that mpirun or srun has started.
// Whatever the way, `body` runs once per rank with its own World, and nothing else in the code knows the
// difference.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "runtime/buffer.h"
#include "runtime/communicator.h"

namespace unipool {

struct World {
  Communicator* communicator = nullptr;  // all ranks; owned by RunWorld
  MemoryMeter* memory = nullptr;         // this rank's; owned by RunWorld
  bool is_mpi = false;
  int local_rank = 0;  // rank among those on this host
  int rank() const { return communicator->rank(); }
  int size() const { return communicator->size(); }
};

struct WorldOptions {
  int num_threads = 1;                         // ranks when no MPI launcher started us; ignored under one
  std::chrono::milliseconds timeout{300'000};  // the watchdog's time
};

// True when a launcher (mpirun, srun with PMIx) started this process as one of several ranks or as a single
// MPI rank.
bool UnderMpiLauncher();
// Number of ranks RunWorld would have, without starting MPI: the launcher's count or options.num_threads.
int WorldSize(const WorldOptions& options);

// Runs body(world) on every rank and returns the process's exit code: 0; 2 when a UserError left `body`
// (printed once: a problem that all ranks have is printed by rank 0 alone). When a rank fails alone, the
// whole job ends, exit code 2: a second later, so that ranks with the same problem have said so too.
// REQUIRES: no exchange is under way when a UserError leaves the body, since the memory it names goes. A
// process can run one world of MPI ranks in its life.
int RunWorld(const WorldOptions& options, const std::function<void(World&)>& body);

// Runs `work` on every rank and throws one UserError with all distinct problems on EVERY rank if any rank's
// threw. Collective. Use it around whatever can fail on one rank alone: opening files, reading and writing
// checkpoints.
void RunTogether(Communicator& communicator, const std::function<void()>& work);

}  // namespace unipool
