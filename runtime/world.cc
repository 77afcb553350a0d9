#include "runtime/world.h"

#include <cstdlib>

#include "runtime/mpi_world.h"
#include "runtime/problem_list.h"
#include "runtime/thread_world.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

// The number in an environment variable; 0 when it is absent.
int EnvironmentNumber(const char* name) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : 0;
}

// Tasks of the Slurm step that this process is one of; 0 outside of a step (a batch script is outside).
int SlurmTasks() {
  return EnvironmentNumber("SLURM_STEP_NUM_TASKS");
}

}  // namespace

bool JoinsMpi() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMIX_RANK");
}

bool UnderMpiLauncher() {
  return JoinsMpi() || SlurmTasks() > 1;
}

int WorldSize(const WorldOptions& options) {
  if (!UnderMpiLauncher()) return options.num_threads;
  if (const int size = EnvironmentNumber("OMPI_COMM_WORLD_SIZE")) return size;
  if (const int size = SlurmTasks()) return size;
  throw UserError("the MPI launcher does not say how many ranks it started: use mpirun, or srun --mpi=pmix");
}

int RunWorld(const WorldOptions& options, const std::function<void(World&)>& body) {
  if (options.emulate && UnderMpiLauncher()) {
    PrintErrorLine("error: a cluster is emulated only where ranks are threads of one process");
    return kUserErrorExitCode;
  }
  return UnderMpiLauncher() ? RunMpiWorld(options, body) : RunThreadWorld(options, body);
}

void RunTogether(Communicator& communicator, const std::function<void()>& work, const char* what) {
  const std::string problems = ProblemsOf([&] {
    const FileWork files(communicator, what);
    work();
  });
  const ExchangeLabel label{.operation = "agree on problems", .step = -1, .slot = -1};
  const std::vector<std::string> all = communicator.AllGatherText(problems, label);
  if (const int exit_code = ExitCodeOf(all)) throw UserError(DistinctProblems(all), exit_code);
}

}  // namespace unipool
