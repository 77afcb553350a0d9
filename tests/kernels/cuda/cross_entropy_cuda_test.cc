#include "kernels/cross_entropy.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaCrossEntropy = CudaTest;

// Vocabularies whose rows begin at every offset from 16 bytes.
std::vector<RowShape> LogitShapes() {
  return {{0, 11}, {1, 1}, {9, 3}, {17, 11}, {3, 1000}, {5, 257}, {2, 8195}};
}
const RowShape kLarge = {1, 50304};  // GPT-2's vocabulary

std::vector<double> RandomTargets(CudaCase& c, const RowShape& s) {
  std::vector<double> targets(s.rows);
  for (double& target : targets) target = static_cast<double>(c.random()() % s.width);
  if (s.rows > 1) targets[0] = 0, targets[1] = static_cast<double>(s.width - 1);
  return targets;
}

void LossAlone(const std::vector<RowShape>& shapes) {
  ForEachCase(shapes, [](CudaCase& c, const RowShape& s) {
    const auto logits = c.In("logits", {s.rows, s.width}, -9, 12);
    const auto targets = c.InValues("targets", {s.rows}, RandomTargets(c, s), ArrayType::kI32);
    const auto losses = c.Out("losses", {s.rows}, {.relative = 1e-6, .absolute = 2e-6}, ArrayType::kF64);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      CrossEntropy(stream, t[logits], t[targets], 0, t[losses]);
    });
  });
}
TEST_F(CudaCrossEntropy, LossAlone) {
  LossAlone(LogitShapes());
}
TEST_F(CudaCrossEntropy, LossAloneLarge) {
  LossAlone({kLarge});
}

void LossAndGradient(const std::vector<RowShape>& shapes) {
  ForEachCase(shapes, [](CudaCase& c, const RowShape& s) {
    const double scale = -3.5;
    const auto logits = c.InOut("logits", {s.rows, s.width}, -9, 12, {.relative = 5e-6, .absolute = 2e-6});
    const auto targets = c.InValues("targets", {s.rows}, RandomTargets(c, s), ArrayType::kI32);
    const auto losses = c.Out("losses", {s.rows}, {.relative = 1e-6, .absolute = 2e-6}, ArrayType::kF64);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      CrossEntropy(stream, t[logits], t[targets], scale, t[losses]);
    });
  });
}
TEST_F(CudaCrossEntropy, LossAndGradient) {
  LossAndGradient(LogitShapes());
}
TEST_F(CudaCrossEntropy, LossAndGradientLarge) {
  LossAndGradient({kLarge});
}

// Falling and rising rows, whose exponentials alone would overflow or vanish: the running maximum is raised
// at the first element only, or at each.
TEST_F(CudaCrossEntropy, LargeLogits) {
  ForEachCase({RowShape{2, 1000}}, [](CudaCase& c, const RowShape& s) {
    std::vector<double> values(s.rows * s.width);
    for (int64_t j = 0; j < s.width; ++j) {
      values[j] = 3e4 - static_cast<double>(j);
      values[s.width + j] = static_cast<double>(j) - 3e4;
    }
    const auto logits = c.InOutValues("logits", {s.rows, s.width}, values,
                                      {.relative = 5e-6, .absolute = 2e-6}, ArrayType::kData);
    const auto targets = c.InValues("targets", {s.rows}, {1, 997}, ArrayType::kI32);
    const auto losses = c.Out("losses", {s.rows}, {.relative = 1e-6, .absolute = 2e-6}, ArrayType::kF64);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      CrossEntropy(stream, t[logits], t[targets], 1, t[losses]);
    });
  });
}

}  // namespace
}  // namespace unipool
