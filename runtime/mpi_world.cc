#include "runtime/mpi_world.h"

#include "runtime/failed_check.h"
#include "runtime/mpi_communicator.h"
#include "runtime/mpi_progress.h"
#include "runtime/problem_list.h"

namespace unipool {
namespace {

// After a failed CHECK: a rank that only ended itself might leave the others waiting.
void EndJobAfterFailedCheck() {
  MPI_Abort(MPI_COMM_WORLD, kAbortedExitCode);
}

int LocalRank() {
  MPI_Comm host;
  int rank = 0;
  MPI_CHECK(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host));
  MPI_CHECK(MPI_Comm_rank(host, &rank));
  MPI_CHECK(MPI_Comm_free(&host));
  return rank;
}

// The body's packed problems.
std::string RunBody(MpiJob& job, const std::function<void(World&)>& body) {
  const std::unique_ptr<Communicator> communicator = MakeMpiCommunicator(job);
  MemoryMeter memory;
  World world{.communicator = communicator.get(),
              .memory = &memory,
              .is_mpi = true,
              .local_rank = LocalRank(),
              .hosts = job.hosts()};
  return ProblemsOf([&] { body(world); });
}

int RunJob(const WorldOptions& options, const std::function<void(World&)>& body) {
  MpiJob job({.exchange = options.timeout, .files = options.file_timeout}, options.on_end);
  const int expected = WorldSize(options);
  if (job.size() != expected) {
    PrintErrorLine(
        Format("error: the launcher started %d ranks, but MPI joins only %d: use mpirun, or srun --mpi=pmix",
               expected, job.size()));
    return kUserErrorExitCode;
  }
  std::optional<MpiProgress> progress;
  std::optional<MpiPolls> polls;
  if (options.progress_thread)
    progress.emplace();
  else
    polls.emplace();
  return job.Leave(RunBody(job, body));
}

}  // namespace

int RunMpiWorld(const WorldOptions& options, const std::function<void(World&)>& body) {
  const int wanted = options.progress_thread ? MPI_THREAD_MULTIPLE : MPI_THREAD_SERIALIZED;
  SetLargeMpiSends();
  int provided = 0;
  MPI_CHECK(MPI_Init_thread(nullptr, nullptr, wanted, &provided));
  CHECK_GE(provided, wanted) << "this MPI cannot be called by several threads: turn the progress thread off";
  const int exit_code = [&] {
    const FailedCheckActs acts(options.on_end, &EndJobAfterFailedCheck);
    return RunJob(options, body);
  }();
  MPI_CHECK(MPI_Finalize());
  return exit_code;
}

std::string MpiVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_CHECK(MPI_Get_library_version(text, &length));
  const std::string version(text);
  return version.substr(0, version.find_first_of(",\n"));  // Open MPI goes on with who built it
}

}  // namespace unipool
