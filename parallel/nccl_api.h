// What is asked of NCCL, without its header: one rank's communicator, which spans the job. The real one is in
// nccl_api_cuda.cc, and tests play its part.
//
// Init, GroupEnd and Finalize may wait for other ranks, as long as those do not come. A call that fails is
// remembered, and HasFailed tells.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace unipool {

class NcclApi {
 public:
  virtual ~NcclApi() = default;        // frees the communicator, if Abort has not
  virtual std::string UniqueId() = 0;  // bytes by which the ranks of a communicator find each other
  // Waits until all ranks of the communicator have called it.
  virtual void Init(const std::string& unique_id, int rank, int size) = 0;

  // Between GroupStart and GroupEnd: sends and receives that a kernel in `queue` (cudaStream_t) does
  // together. They match the peer's receives and sends in order.
  virtual void GroupStart() = 0;
  virtual void Send(const void* data, int64_t bytes, int peer, void* queue) = 0;
  virtual void Recv(void* data, int64_t bytes, int peer, void* queue) = 0;
  // The kernel is in the queue when this returns. It waits for a peer only if this is the first group that
  // sends to the peer or receives from it: NCCL then connects the two ranks in that direction.
  virtual void GroupEnd() = 0;

  // Has a call, the work in the queue or a peer failed so far? Does not wait.
  virtual bool HasFailed() = 0;
  virtual std::string ErrorText() = 0;  // in NCCL's words; REQUIRES: HasFailed

  virtual void Finalize() = 0;  // REQUIRES: all work is done
  virtual void Abort() = 0;     // ends also work that waits for a peer
};

// Why NCCL cannot be used here, a clause ("libnccl.so.2 cannot be opened (...)"); empty: it can.
std::string NcclProblem();
// "2.28.3"; REQUIRES: no problem.
std::string NcclVersion();
// Opens the library now, and not when the program starts: where the loader looks, and then in
// /usr/local/cuda. UserError if there is a problem. Uses the current CUDA device of the calling thread.
std::unique_ptr<NcclApi> OpenNccl();

}  // namespace unipool
