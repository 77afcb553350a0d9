#include "runtime/mpi_progress.h"

#include <cstdlib>

#include "runtime/mpi_job.h"

namespace unipool {
namespace {

// Shorter than the time in which a gigabit wire drains a socket's buffer of a few MB. Every call takes some
// processor time and MPI's lock: at 50 us a step without a slow wire took 1.4 times as long, at 500 us 1.05.
constexpr std::chrono::microseconds kPause{500};

int EnvironmentNumber(const char* name, int absent) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : absent;
}

bool OnSeveralHosts() {
  if (const int size = EnvironmentNumber("OMPI_COMM_WORLD_SIZE", 0)) {
    return EnvironmentNumber("OMPI_COMM_WORLD_LOCAL_SIZE", size) < size;
  }
  return EnvironmentNumber("SLURM_STEP_NUM_NODES", 1) > 1;
}

}  // namespace

bool WantsProgressThread(ProgressThread choice) {
  return choice == ProgressThread::kAuto ? OnSeveralHosts() : choice == ProgressThread::kOn;
}

MpiProgress::MpiProgress() {
  MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &comm_));
  thread_ = std::thread([this] { Run(); });
}

MpiProgress::~MpiProgress() {
  ends_.store(true);
  thread_.join();
  MPI_Comm_free(&comm_);
}

// Nothing is ever sent on this communicator: looking for it is what makes MPI attend to everything else.
void MpiProgress::Run() {
  while (!ends_.load(std::memory_order_relaxed)) {
    int found = 0;
    MPI_CHECK(MPI_Iprobe(MPI_ANY_SOURCE, 0, comm_, &found, MPI_STATUS_IGNORE));
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace unipool
