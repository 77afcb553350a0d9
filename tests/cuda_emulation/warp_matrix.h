// What the tensor cores do with the registers of a warp, as PTX documents it (see kernels/cuda/mma.h).
#pragma once

#include <cstdint>
#include <source_location>

namespace unipool::emulation {

void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
             const std::source_location& where = std::source_location::current());
void LoadMatrices(uint32_t (&matrix)[4], const void* row, bool transposed,
                  const std::source_location& where = std::source_location::current());

}  // namespace unipool::emulation
