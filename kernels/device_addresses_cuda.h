// Addresses that a library reads from device memory. They travel as arguments of a kernel: the host's array
// is free when the call returns, nothing waits, no pinned memory is kept, and the order is the stream's.
#pragma once

#include <span>

#include "kernels/cuda/launcher.h"

// to[i] = addresses[i]; `to` is device memory. One launch for each 480 addresses.
UNIPOOL_CUDA_LAUNCHER(WriteAddresses, Stream& stream, std::span<const uintptr_t> addresses, uintptr_t* to)
