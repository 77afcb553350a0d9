#include "kernels/rope.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaRope = CudaTest;

struct RopeShape {
  AttentionShape shape;
  int64_t first_position;
};
std::ostream& operator<<(std::ostream& out, const RopeShape& s) {
  return out << s.shape.num_sequences << " sequences of " << s.shape.sequence_length << " from position "
             << s.first_position << ", " << s.shape.num_heads << "/" << s.shape.num_kv_heads << " heads of "
             << s.shape.head_size;
}

// Values heads stay as they are: the whole of qkv is compared.
TEST_F(CudaRope, BothDirections) {
  const std::vector<RopeShape> shapes = {
      {{1, 1, 1, 1, 2}, 0},  {{1, 1, 2, 1, 64}, 5},    {{3, 17, 4, 2, 32}, 0}, {{2, 65, 6, 2, 96}, 3},
      {{1, 9, 3, 1, 10}, 0}, {{1, 130, 1, 1, 128}, 0}, {{2, 5, 7, 7, 80}, 1},  {{0, 8, 2, 1, 16}, 0}};
  for (const RopeDirection direction : {RopeDirection::kForward, RopeDirection::kBackward}) {
    ForEachCase(shapes, [&](CudaCase& c, const RopeShape& s) {
      const CudaCase::Shape table = {s.first_position + s.shape.sequence_length + 2, s.shape.head_size / 2};
      const auto cos = c.In("cos", table, -1, 1, ArrayType::kAccumulator);
      const auto sin = c.In("sin", table, -1, 1, ArrayType::kAccumulator);
      const auto qkv =
          c.InOut("qkv", {s.shape.tokens(), s.shape.qkv_size()}, -1, 1, {.relative = 1e-6, .absolute = 1e-6});
      c.Run([&](Stream& stream, const CaseTensors& t) {
        Rope(stream, s.shape, t[cos], t[sin], direction, t[qkv], s.first_position);
      });
    });
  }
}

}  // namespace
}  // namespace unipool
