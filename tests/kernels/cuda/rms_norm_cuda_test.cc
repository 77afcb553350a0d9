#include "kernels/rms_norm.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

constexpr double kEps = 1e-5;
using CudaRmsNorm = CudaTest;

TEST_F(CudaRmsNorm, Forward) {
  ForEachCase(RowShapes(), [](CudaCase& c, const RowShape& s) {
    const auto x = c.In("x", {s.rows, s.width}, -0.1, 0.2), weight = c.In("weight", {s.width}, -1, 1);
    const auto y = c.Out("y", {s.rows, s.width}, {.relative = 1e-6});
    const auto inv_rms = c.Out("inv_rms", {s.rows}, {.relative = 1e-6}, ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      RmsNormForward(stream, t[x], t[weight], kEps, t[y], t[inv_rms]);
    });
  });
}

// The last shape has more rows than the launch has warps: 256 blocks of 8.
TEST_F(CudaRmsNorm, Backward) {
  std::vector<RowShape> shapes = RowShapes();
  shapes.push_back({2100, 8});
  ForEachCase(shapes, [](CudaCase& c, const RowShape& s) {
    const auto x = c.In("x", {s.rows, s.width}, -1, 2), weight = c.In("weight", {s.width}, -1, 1);
    const auto inv_rms = c.In("inv_rms", {s.rows}, 0.5, 2, ArrayType::kAccumulator);
    const auto dy = c.In("dy", {s.rows, s.width}, -1, 1),
               residual = c.In("residual", {s.rows, s.width}, -1, 1);
    const auto dx = c.Out("dx", {s.rows, s.width}, {.relative = 1e-6, .absolute = 1e-5});
    const auto dweight =
        c.InOut("dweight", {s.width}, -1, 1, {.relative = 1e-6, .absolute = 1e-5 + 1e-7 * s.rows},
                ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      RmsNormBackward(stream, t[x], t[weight], t[inv_rms], t[dy], t[residual], t[dx], t[dweight]);
    });
  });
}

TEST_F(CudaRmsNorm, ResidualGradientMayBeTheOutput) {
  ForEachCase({RowShape{3, 100}, RowShape{2, 1024}, RowShape{2, 2050}}, [](CudaCase& c, const RowShape& s) {
    const auto x = c.In("x", {s.rows, s.width}, -1, 2), weight = c.In("weight", {s.width}, -1, 1);
    const auto inv_rms = c.In("inv_rms", {s.rows}, 0.5, 2, ArrayType::kAccumulator);
    const auto dy = c.In("dy", {s.rows, s.width}, -1, 1);
    const auto dx = c.InOut("dx", {s.rows, s.width}, -1, 1, {.relative = 1e-6, .absolute = 1e-5});
    const auto dweight =
        c.InOut("dweight", {s.width}, -1, 1, {.relative = 1e-6, .absolute = 1e-5}, ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      RmsNormBackward(stream, t[x], t[weight], t[inv_rms], t[dy], t[dx], t[dx], t[dweight]);
    });
  });
}

}  // namespace
}  // namespace unipool
