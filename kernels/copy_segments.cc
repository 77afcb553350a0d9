#include "kernels/copy_segments.h"

#include <cstring>

#include "kernels/cuda/launchers.h"

namespace unipool {

void CopySegments(Stream& stream, std::span<const Segment> segments) {
  double bytes = 0;
  for (const Segment& segment : segments) {
    CHECK_GE(segment.bytes, 0) << "CopySegments";
    bytes += static_cast<double>(segment.bytes);
  }
  KernelScope scope(stream, Op::kPermute, 0, 2 * bytes);
  if (stream.device() == Device::kCuda) return cuda::CopySegments(stream, segments);
  for (const Segment& segment : segments) {
    if (segment.bytes > 0) std::memcpy(segment.to, segment.from, segment.bytes);
  }
}

}  // namespace unipool
