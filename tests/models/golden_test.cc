// Losses of small runs in double, checked in at full precision: a refactoring leaves them untouched. The
// tolerance is for the mathematical functions of another machine's library.
// UNIPOOL_WRITE_GOLDEN=1 writes the file anew, for a change that means to change them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/models/training_run.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFile[] = UNIPOOL_SOURCE_DIR "/tests/fixtures/golden_losses.json";

Json Compute() {
  Json golden;
  for (const SmallModel& small : PresetKinds()) {
    OneRank one;
    const RunTrace trace = Train(TrainingConfigOf(small), one.world, DType::kF64, 8);
    golden[NameOf(small)] = {
        {"loss", trace.loss}, {"pool_loss", trace.pool_loss}, {"grad_norm", trace.grad_norm}};
  }
  return golden;
}

TEST(Golden, LossesAreUntouched) {
  const Json computed = Compute();
  if (std::getenv("UNIPOOL_WRITE_GOLDEN")) std::ofstream(kFile) << computed.dump(1) << "\n";
  std::ifstream file(kFile);
  ASSERT_TRUE(file) << kFile;
  const Json golden = Json::parse(file);
  ASSERT_EQ(golden.size(), PresetKinds().size());
  for (const auto& [kind, traces] : golden.items()) {
    ASSERT_TRUE(computed.contains(kind)) << kind;
    for (const auto& [name, values] : traces.items()) {
      ASSERT_EQ(values.size(), 8u);
      for (size_t i = 0; i < values.size(); ++i) {
        const double expected = values[i], value = computed[kind][name][i];
        EXPECT_NEAR(value, expected, 1e-12 * std::abs(expected)) << kind << ", " << name << " of step " << i;
      }
    }
  }
}

}  // namespace
}  // namespace unipool
