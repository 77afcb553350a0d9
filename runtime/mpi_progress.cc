#include "runtime/mpi_progress.h"

#include <glog/logging.h>

#include <cstdlib>

#include "runtime/mpi_job.h"

namespace unipool {
namespace {

// Shorter than the time in which a gigabit wire drains a socket's buffer of a few MB. Every call of the
// thread takes MPI's lock: at 50 us a step without a slow wire took 1.4 times as long, at 500 us 1.05.
constexpr std::chrono::microseconds kThreadPause{500};
// Every call reads what has come. At half the pause a step was as long, with twice the calls.
constexpr std::chrono::microseconds kPollPause{1000};

}  // namespace

MpiCaller::MpiCaller() {
  MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &comm_));
}

MpiCaller::~MpiCaller() {
  MPI_Comm_free(&comm_);
}

void MpiCaller::Call() const {
  int found = 0;
  MPI_CHECK(MPI_Iprobe(MPI_ANY_SOURCE, 0, comm_, &found, MPI_STATUS_IGNORE));
}

MpiPolls::MpiPolls() : poll_([this] { caller_.Call(); }, kPollPause) {}

MpiProgress::MpiProgress() : thread_([this] { Run(); }) {}

MpiProgress::~MpiProgress() {
  ends_.store(true);
  thread_.join();
}

void MpiProgress::Run() {
  while (!ends_.load(std::memory_order_relaxed)) {
    caller_.Call();
    std::this_thread::sleep_for(kThreadPause);
  }
}

void SetLargeMpiSends() {
  setenv("OMPI_MCA_btl_tcp_eager_limit", "1048576", /*overwrite=*/0);
}

}  // namespace unipool
