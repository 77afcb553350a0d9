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
// Segments do not overlap; addresses and sizes may be any (16-byte accesses where they allow it). Reads
// `segments` before it returns. Moves each byte twice; on CUDA a launch for each 144 segments that have
// bytes.
void CopySegments(Stream& stream, std::span<const Segment> segments);

}  // namespace unipool
