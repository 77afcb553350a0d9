// A program with ranges that uses no GPU: loads a library as CUDA does (LIBRARY is what CUDA_INJECTION64_PATH
// would name), then pushes and pops ranges of a main and of a second thread. NVTX loads what
// NVTX_INJECTION64_PATH names by itself.
//
// usage: timeline_host LIBRARY
#include <dlfcn.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <thread>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  void* const library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 3;
  }
  const auto initialize = reinterpret_cast<int (*)()>(dlsym(library, "InitializeInjection"));
  if (!initialize || initialize() != 1) return 4;
  nvtxRangePushA("step 7");
  char name[] = "forward lane,\tmicrobatch 0";
  nvtxRangePushA(name);
  name[0] = 'x';  // names are read when they are pushed
  std::thread([] {
    nvtxRangePushA("second thread");
    nvtxRangePop();
    nvtxRangePop();  // one too many
  }).join();
  nvtxRangePop();
  nvtxRangePop();
  nvtxRangePushA("never ends");
  std::puts("the program went on");
  return 0;
}
