// Parameters in one array: where they lie, what they begin with, and masters beside rounded copies.
#include "models/dense_parameters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/random.h"

namespace unipool {
namespace {

struct Declared {
  DenseParameters parameters;
  DenseParameters::Id vector, first, second, last;
  MemoryMeter memory;
  Stream stream{memory};
  explicit Declared(const ComputeTypes& types) {
    vector = parameters.Declare("norm", {3}, {.mean = 1}, WeightDecay::kNo);
    first = parameters.Declare("first", {2, 4}, {.std = 0.5}, WeightDecay::kYes);
    second = parameters.Declare("second", {3, 4}, {.std = 0.5}, WeightDecay::kYes);
    last = parameters.Declare("last", {1, 4}, {.std = 0.25}, WeightDecay::kYes);
    parameters.Allocate(types, /*is_trainable=*/true, memory);
    parameters.Initialize(7, parameters.flat_master());
    parameters.RefreshCompute(stream);
  }
};

TEST(DenseParameters, LieOneBehindTheOther) {
  Declared declared(ComputeTypes::Both(DType::kF32));
  const DenseParameters& parameters = declared.parameters;
  EXPECT_EQ(parameters.list()[1].elements.begin % 8, 0) << "matrices begin at whole 16 bytes";
  EXPECT_EQ(parameters.num_elements(), 8 + 8 + 12 + 4);
  EXPECT_TRUE(parameters.flat_compute_copies().empty()) << "F32 computes with the masters";
  EXPECT_EQ(parameters.compute(declared.first).data, parameters.master(declared.first).data);
  const Tensor fused = parameters.FusedProduct(declared.first, 2);
  EXPECT_EQ(fused.dim(0), 5);
  EXPECT_EQ(fused.data, parameters.compute(declared.first).data);
  const Tensor second = parameters.compute(declared.second);
  EXPECT_EQ(fused.Rows(2, 3).data, second.data);
  EXPECT_EQ(parameters.FusedGrad(declared.first, 2).Rows(2, 3).data, parameters.grad(declared.second).data);
}

TEST(DenseParameters, CopiesAreTheMastersRounded) {
  Declared declared(ComputeTypes::Both(DType::kBF16));
  const DenseParameters& parameters = declared.parameters;
  ASSERT_FALSE(parameters.flat_compute_copies().empty());
  const Tensor master = parameters.master(declared.second), copy = parameters.compute(declared.second);
  ASSERT_EQ(copy.dtype, DType::kBF16);
  bool any_differs = false;
  for (int64_t i = 0; i < master.size(); ++i) {
    const float exact = master.as<float>()[i];
    const uint32_t bits = uint32_t{static_cast<const uint16_t*>(copy.data)[i]} << 16;
    float rounded = 0;
    std::memcpy(&rounded, &bits, 4);
    EXPECT_NEAR(rounded, exact, std::abs(exact) / 256);
    any_differs |= rounded != exact;
  }
  EXPECT_TRUE(any_differs);
}

TEST(DenseParameters, BeginWithNumbersOfTheirNameAndSeedAlone) {
  std::vector<float> one(6), other(6), named(6), seeded(6), constant(6);
  const auto fill = [](uint64_t seed, const char* name, const ParameterInit& init,
                       std::vector<float>& values) {
    InitializeTensor(seed, name, init, Tensor(values.data(), DType::kF32, {6}));
  };
  fill(1, "a", {.std = 1}, one);
  fill(1, "a", {.std = 1}, other);
  fill(1, "b", {.std = 1}, named);
  fill(2, "a", {.std = 1}, seeded);
  fill(1, "a", {.mean = 1}, constant);
  EXPECT_EQ(one, other);
  EXPECT_NE(one, named);
  EXPECT_NE(one, seeded);
  EXPECT_EQ(constant, std::vector<float>(6, 1));
}

// So many that several threads share them where there are cores.
TEST(DenseParameters, ManyNumbersAreEachTheirOwn) {
  const int64_t n = (int64_t{1} << 20) + 5;
  std::vector<float> values(n, std::nanf(""));
  InitializeTensor(3, "a", {.std = 2}, Tensor(values.data(), DType::kF32, {n}));
  const uint64_t key = RandomBits(3, HashBytes("a"));
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(values[i], static_cast<float>(2 * RandomNormal(key, i))) << i;
}

}  // namespace
}  // namespace unipool
