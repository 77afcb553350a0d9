#include "models/rope_tables.h"

#include <vector>

#include "kernels/rope.h"

namespace unipool {

RopeTables::RopeTables(const ModelSpec& spec, DType dtype, DeviceContext* device, MemoryMeter& memory) {
  const DType exact = AccumulatorOf(dtype);
  const int64_t s = spec.seq_length, half = spec.head_size() / 2;
  const int64_t bytes = 2 * s * half * SizeOf(exact);
  buffer = Buffer::Allocate(memory, MemoryKind::kScratch, bytes);
  const Tensor tables = buffer.View(exact, {2 * s, half});
  cos = tables.Rows(0, s);
  sin = tables.Rows(s, s);
  if (!device) {
    FillRopeTables(spec.rope_base, cos, sin);
    return;
  }
  std::vector<char> host(bytes);
  const Tensor host_tables(host.data(), exact, {2 * s, half});
  FillRopeTables(spec.rope_base, host_tables.Rows(0, s), host_tables.Rows(s, s));
  device->Upload(buffer.data(), host.data(), bytes);
}

}  // namespace unipool
