#include "parallel/nccl_api.h"

#include "runtime/errors.h"

// Where CUDA's toolkit has NCCL's header, nccl_api_cuda.cc defines these.
#ifndef UNIPOOL_WITH_NCCL
namespace unipool {

std::string NcclProblem() {
  return "this program was built without NCCL's header (nccl.h)";
}

std::string NcclVersion() {
  return "";
}

std::unique_ptr<NcclApi> OpenNccl() {
  throw UserError("NCCL was asked for, but " + NcclProblem() +
                  "; build it where nvcc and nccl.h are found, or set parallel.transport to AUTO");
}

}  // namespace unipool
#endif
