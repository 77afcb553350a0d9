#include "launcher/version.h"

#include "launcher/version_text.h"  // made by launcher/version.cmake at each build
#include "runtime/errors.h"
#include "runtime/mpi_world.h"

#if defined(__clang__)
#define UNIPOOL_COMPILER "clang " __clang_version__
#else
#define UNIPOOL_COMPILER "GCC " __VERSION__
#endif

namespace unipool {

std::string ProgramVersion() {
  return UNIPOOL_VERSION;
}

std::string VersionText() {
  const std::string cuda = UNIPOOL_CUDA_VERSION;
  return Format("unipool %s\ncommit    %s\ncompiler  %s\nMPI       %s\nCUDA      %s\n", UNIPOOL_NUMBER,
                UNIPOOL_VERSION, UNIPOOL_COMPILER, MpiVersion().c_str(),
                cuda.empty() ? "no: built without a toolkit, for CPUs" : cuda.c_str());
}

}  // namespace unipool
