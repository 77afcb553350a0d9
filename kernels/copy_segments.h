// Many copies of contiguous bytes at once, on the stream's device.
#pragma once

#include <span>

#include "runtime/stream.h"

namespace unipool {

struct Segment {
  const void* from = nullptr;
  void* to = nullptr;
  int64_t bytes = 0;
};
// REQUIRES: segments do not overlap. Addresses and sizes may be any; where they allow it accesses have 16
// bytes. `segments` has been read when the call returns. Moves each byte twice. On CUDA it is one launch for
// each 144 segments that have bytes.
void CopySegments(Stream& stream, std::span<const Segment> segments);

}  // namespace unipool
