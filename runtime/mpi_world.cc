#include "runtime/mpi_world.h"

#include <execinfo.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/mpi_communicator.h"
#include "runtime/mpi_progress.h"
#include "runtime/problem_list.h"

namespace unipool {
namespace {

// What a failed CHECK does after its message: a rank that only ended itself might leave the others waiting.
[[noreturn]] void EndJobAfterFailedCheck() {
  constexpr int kAborted = 128 + 6;  // what a shell reports for a process that aborted
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
  MPI_Abort(MPI_COMM_WORLD, kAborted);
  std::abort();
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
  World world{
      .communicator = communicator.get(), .memory = &memory, .is_mpi = true, .local_rank = LocalRank()};
  try {
    body(world);
  } catch (const UserError& error) {
    return PackProblems(error);
  }
  return "";
}

int RunJob(const WorldOptions& options, const std::function<void(World&)>& body, bool progress_thread) {
  MpiJob job(options.timeout);
  const int expected = WorldSize(options);
  if (job.size() != expected) {
    PrintErrorLine(
        Format("error: the launcher started %d ranks, but MPI joins only %d: use mpirun, or srun --mpi=pmix",
               expected, job.size()));
    return kUserErrorExitCode;
  }
  std::optional<MpiProgress> progress;
  if (progress_thread) progress.emplace();
  return job.Leave(RunBody(job, body));
}

}  // namespace

int RunMpiWorld(const WorldOptions& options, const std::function<void(World&)>& body) {
  const bool progress_thread = WantsProgressThread(options.progress_thread);
  const int wanted = progress_thread ? MPI_THREAD_MULTIPLE : MPI_THREAD_FUNNELED;
  int provided = 0;
  MPI_CHECK(MPI_Init_thread(nullptr, nullptr, wanted, &provided));
  CHECK_GE(provided, wanted) << "this MPI cannot be called by several threads: turn the progress thread off";
  google::InstallFailureFunction(reinterpret_cast<google::logging_fail_func_t>(&EndJobAfterFailedCheck));
  const int exit_code = RunJob(options, body, progress_thread);
  google::InstallFailureFunction(reinterpret_cast<google::logging_fail_func_t>(&std::abort));
  MPI_CHECK(MPI_Finalize());
  return exit_code;
}

}  // namespace unipool
