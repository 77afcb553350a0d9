// Starts the ranks of a job. They are threads of this process, or the processes that mpirun or srun has
// started. In both cases `body` runs once a rank, with the rank's own World, and little else in the code
// knows the difference.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "runtime/buffer.h"
#include "runtime/cluster_description.h"
#include "runtime/communicator.h"
#include "runtime/watchdog.h"

namespace unipool {

class EmulatedRank;

struct World {
  Communicator* communicator = nullptr;  // all ranks; owned by RunWorld
  MemoryMeter* memory = nullptr;         // this rank's; owned by RunWorld
  bool is_mpi = false;
  int local_rank = 0;                 // rank among those on this host
  std::vector<std::string> hosts;     // of each rank
  EmulatedRank* emulation = nullptr;  // this rank's; owned by RunWorld; null: no cluster is emulated
  int rank() const { return communicator->rank(); }
  int size() const { return communicator->size(); }
};

struct WorldOptions {
  int num_threads = 1;                         // ranks, where no MPI launcher has started the program
  std::chrono::milliseconds timeout{300'000};  // how long a rank waits before it ends the job; 0: for ever
  std::chrono::milliseconds file_timeout{3'600'000};  // how long a rank may be at file work; 0: for ever
  // Called in the process that ends the job before its work is done (stuck, a rank that fails alone, a failed
  // CHECK), after the reason was printed.
  JobEndHook on_end;
  // The cluster to emulate (emulated_communicator.h). Only where ranks are threads.
  std::optional<ClusterDescription> emulate;
  // MPI moves data only while it is called. While a rank computes, its kernels call it (mpi_progress.h), or a
  // thread does, for kernels that run on a device. Only where ranks are processes of an MPI job.
  bool progress_thread = false;
};

// Whether a launcher (mpirun, srun with PMIx) has started this process as a rank, be it the only one.
bool UnderMpiLauncher();
// Whether MPI's own variables say so, and not Slurm's alone. Slurm's are also there in a shell of a Slurm
// step (srun --pty), where a command that needs no other ranks is a process by itself.
bool JoinsMpi();
// The number of ranks that RunWorld would have: the launcher's count under a launcher, and
// options.num_threads otherwise. Does not start MPI. Throws a UserError where a launcher does not tell its
// count.
int WorldSize(const WorldOptions& options);

// Runs body(world) on every rank. Returns the process's exit code: 0, or that of the UserError which left
// `body` on some rank (the lowest, where several did; kUserErrorExitCode for any other exception). Each
// problem is printed once, with the ranks that have it unless all do.
//
// A rank that fails alone leaves others waiting for it. So one second after a rank's UserError the whole job
// ends with its exit code, even where other ranks are still in `body`. In that second ranks with the same
// problem fail too, and the problem is printed once for all of them.
//
// REQUIRES: no exchange is under way when a UserError leaves `body`, since the memory that the exchange names
// goes with it. A process can run a world of MPI ranks only once in its life.
int RunWorld(const WorldOptions& options, const std::function<void(World&)>& body);

// Runs `work` on every rank. Where it threw on any rank, all ranks throw one UserError with all different
// problems and the lowest exit code. Collective. Use it around what can fail on one rank alone: opening
// files, reading and writing checkpoints. `work` is file work (Communicator) of the name `what`, so it
// starts no exchange.
void RunTogether(Communicator& communicator, const std::function<void()>& work, const char* what = "files");

}  // namespace unipool
