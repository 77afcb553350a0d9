#include "kernels/cuda_context.h"

#include "runtime/errors.h"
namespace unipool {
std::unique_ptr<DeviceContext> MakeCudaContext(int) {
  throw UserError("stub");
}
}  // namespace unipool
