// The communicator of ranks that are processes of an MPI job. It moves host memory. A block is one
// nonblocking message, or several where it is larger than a limit. The message's tag is the number of the
// exchange. MPI moves data during every Start and Wait. While a rank computes in between, MPI moves data only
// if the job has a progress thread (mpi_progress.h).
#pragma once

#include <memory>

#include "runtime/communicator.h"
#include "runtime/mpi_job.h"

namespace unipool {

// A communicator of all ranks of the job. Collective. `job` must outlive it and all communicators that are
// split from it. A block above max_message_bytes travels in pieces, since MPI counts bytes with an int.
std::unique_ptr<Communicator> MakeMpiCommunicator(MpiJob& job, int64_t max_message_bytes = int64_t{1} << 30);

}  // namespace unipool
