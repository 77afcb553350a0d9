// What is asked of NCCL, without its header: one rank's communicator, which spans the job. The real one is in
// nccl_api_cuda.cc, and tests play its part.
//
// Nothing here blocks. A call that fails is remembered, and Poll tells.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace unipool {

class NcclApi {
 public:
  enum class Progress { kDone, kUnderWay, kFailed };
  virtual ~NcclApi() = default;        // frees the communicator, if Finalize or Abort has not
  virtual std::string UniqueId() = 0;  // bytes by which the ranks of a communicator find each other
  virtual void Init(const std::string& unique_id, int rank, int size) = 0;

  // Between GroupStart and GroupEnd: sends and receives that a kernel in `queue` (cudaStream_t) does
  // together. They match the peer's receives and sends in order.
  virtual void GroupStart() = 0;
  virtual void Send(const void* data, int64_t bytes, int peer, void* queue) = 0;
  virtual void Recv(void* data, int64_t bytes, int peer, void* queue) = 0;
  virtual void GroupEnd() = 0;

  // How far the calls so far are, not the work in the queue. kFailed also when the work or a peer has failed.
  virtual Progress Poll() = 0;
  virtual std::string ErrorText() = 0;  // in NCCL's words

  virtual void Finalize() = 0;  // REQUIRES: all work is done. Poll until kDone.
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
