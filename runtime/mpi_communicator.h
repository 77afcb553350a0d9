// The transport of ranks that are processes of an MPI job, over host memory: one nonblocking message per
// block (more for blocks above a size limit), tagged with the number of the exchange. The library makes
// progress during every Start and Wait, and while a rank computes in between only if the job has a progress
// thread (mpi_progress.h).
#pragma once

#include <memory>

#include "runtime/communicator.h"
#include "runtime/mpi_job.h"

namespace unipool {

// A communicator of all ranks of the job. Collective. `job` must outlive it and all that are split from it.
// Blocks above max_message_bytes travel in pieces, since MPI counts bytes with an int.
std::unique_ptr<Communicator> MakeMpiCommunicator(MpiJob& job, int64_t max_message_bytes = int64_t{1} << 30);

}  // namespace unipool
