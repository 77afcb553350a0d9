#include "kernels/swiglu.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaSwiglu = CudaTest;

TEST_F(CudaSwiglu, Forward) {
  ForEachCase(RowShapes(), [](CudaCase& c, const RowShape& s) {
    const auto gate_up = c.In("gate_up", {s.rows, 2 * s.width}, -9, 9);
    const auto activation = c.Out("activation", {s.rows, s.width}, {.relative = 3e-6, .absolute = 1e-7});
    c.Run([&](Stream& stream, const CaseTensors& t) { SwigluForward(stream, t[gate_up], t[activation]); });
  });
}

TEST_F(CudaSwiglu, Backward) {
  ForEachCase(RowShapes(), [](CudaCase& c, const RowShape& s) {
    const auto gate_up = c.In("gate_up", {s.rows, 2 * s.width}, -9, 9);
    const auto dactivation = c.In("dactivation", {s.rows, s.width}, -1, 1);
    const auto dgate_up = c.Out("dgate_up", {s.rows, 2 * s.width}, {.relative = 3e-6, .absolute = 1e-5});
    const auto activation = c.Out("activation", {s.rows, s.width}, {.relative = 3e-6, .absolute = 1e-7});
    c.Run([&](Stream& stream, const CaseTensors& t) {
      SwigluBackward(stream, t[gate_up], t[dactivation], t[dgate_up], t[activation]);
    });
  });
}

// exp overflows and underflows: the activation tends to 0 and to gate * up.
TEST_F(CudaSwiglu, LargeGates) {
  ForEachCase({RowShape{1, 4}}, [](CudaCase& c, const RowShape& s) {
    const auto gate_up = c.InValues("gate_up", {1, 8}, {-200, -100, 100, 200, 1, 2, 3, 4}, ArrayType::kData);
    const auto activation = c.Out("activation", {s.rows, s.width}, {.relative = 1e-6, .absolute = 1e-30});
    c.Run([&](Stream& stream, const CaseTensors& t) { SwigluForward(stream, t[gate_up], t[activation]); });
  });
}

}  // namespace
}  // namespace unipool
