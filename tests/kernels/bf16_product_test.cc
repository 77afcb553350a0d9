#include "kernels/cpu/bf16_product.h"

#include <cmath>

#include "kernels/cpu/bf16_bits.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

// A matrix [outer, k] in either type and order, and what the product sees of it.
struct TestOperand {
  TestOperand(std::mt19937_64& random, int64_t outer, int64_t k, DType dtype, bool k_contiguous)
      : outer(outer), dtype(dtype), k_contiguous(k_contiguous), stride((k_contiguous ? k : outer) + 3) {
    const int64_t numbers = stride * (k_contiguous ? outer : k);
    values.assign(numbers, std::numeric_limits<float>::quiet_NaN());  // between the rows
    for (int64_t i = 0; i < outer; ++i) {
      for (int64_t j = 0; j < k; ++j)
        values[At(i, j)] = static_cast<float>(Uniform(random, -1, 1) * std::exp2(Uniform(random, -6, 6)));
    }
    bits.resize(numbers);
    RoundToBf16(values.data(), numbers, bits.data());
  }
  int64_t At(int64_t i, int64_t j) const { return k_contiguous ? i * stride + j : j * stride + i; }
  float Seen(int64_t i, int64_t j) const { return FromBf16(bits[At(i, j)]); }
  Bf16Operand operand() const {
    const void* data = dtype == DType::kBF16 ? static_cast<const void*>(bits.data()) : values.data();
    return {data, dtype, stride, k_contiguous};
  }
  int64_t outer;
  DType dtype;
  bool k_contiguous;
  int64_t stride;
  std::vector<float> values;
  std::vector<uint16_t> bits;
};

struct Case {
  int64_t m, n;
  std::vector<Range> k;
};
const std::vector<Case> kCases = {
    {0, 5, {{0, 3}}},
    {5, 0, {{0, 3}}},
    {3, 5, {}},
    {1, 1, {{0, 1}}},
    {1, 64, {{0, 256}}},
    {16, 16, {{0, 32}}},
    {32, 32, {{0, 64}}},
    {17, 33, {{0, 31}}},
    {48, 40, {{0, 33}}},
    {33, 70, {{0, 300}}},
    {32, 300, {{0, 256}}},
    {64, 96, {{3, 40}, {40, 40}, {50, 114}}},
    {40, 300, {{0, 96}}},
    {5, 40, {{0, 2200}}},
    {97, 40, {{0, 530}}},
    {3, 34, {{0, 2100}}},
    {130, 600, {{1, 2}, {2, 35}, {60, 61}}},
};
int64_t LastOf(const Case& test) {
  return test.k.empty() ? 1 : test.k.back().end;
}

// The sums in the order that bf16_unit.h states, one number after the other.
float InOrder(const Case& test, const TestOperand& a, const TestOperand& b, int64_t i, int64_t j, bool add,
              float c) {
  float sum = add ? c : 0;
  for (const Range& range : test.k) {
    for (int64_t begin = range.begin; begin < range.end; begin += 32) {
      float parts[2] = {};
      for (int64_t k = begin; k < std::min(range.end, begin + 32); ++k) {
        float& part = parts[(k - begin) % 2];
        part = std::fma(a.Seen(i, k), b.Seen(j, k), part);
      }
      sum += parts[0] + parts[1];
    }
  }
  return sum;
}

class Bf16ProductTest : public testing::TestWithParam<Bf16Unit> {
 protected:
  void SetUp() override {
    if (GetParam() == Bf16Unit::kAmx && !AmxBf16Functions()) GTEST_SKIP() << "this processor has no AMX";
    if (GetParam() == Bf16Unit::kAvx512 && !Avx512Bf16Functions())
      GTEST_SKIP() << "this processor has no AVX512-BF16";
  }
  const Bf16Functions& functions() const { return Bf16FunctionsOf(GetParam()); }
  std::mt19937_64 random{static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 5};
};

TEST_P(Bf16ProductTest, EqualsItsDefinitionInDoubleAndItsOrderBitForBit) {
  for (const Case& test : kCases) {
    for (int variant = 0; variant < 32; ++variant) {
      const auto type = [&](int bit) { return variant & bit ? DType::kBF16 : DType::kF32; };
      const TestOperand a(random, test.m, LastOf(test), type(1), variant & 4);
      const TestOperand b(random, test.n, LastOf(test), type(2), variant & 8);
      const bool add = variant & 16;
      const int64_t ldc = test.n + 5;
      Array<float> c({test.m, ldc});  // NaN
      for (int64_t i = 0; add && i < c.size(); ++i) c[i] = static_cast<float>(Uniform(random, -1, 1));
      const Array<float> before = c;
      Bf16Product(functions(), {.m = test.m,
                                .n = test.n,
                                .a = a.operand(),
                                .b = b.operand(),
                                .k = test.k,
                                .add = add,
                                .c = c.tensor().as<float>(),
                                .ldc = ldc});
      for (int64_t i = 0; i < test.m; ++i) {
        for (int64_t j = 0; j < ldc; ++j) {
          SCOPED_TRACE(testing::Message() << test.m << " x " << test.n << ", variant " << variant
                                          << ", element " << i << ", " << j);
          const float was = before[i * ldc + j], is = c[i * ldc + j];
          if (j >= test.n) {
            ASSERT_EQ(std::memcmp(&is, &was, sizeof(is)), 0) << "written beyond the columns";
            continue;
          }
          double sum = add ? was : 0, magnitude = std::abs(sum);
          int64_t terms = 1;
          for (const Range& range : test.k) {
            for (int64_t k = range.begin; k < range.end; ++k, ++terms) {
              const double term = double{a.Seen(i, k)} * double{b.Seen(j, k)};
              sum += term;
              magnitude += std::abs(term);
            }
          }
          ASSERT_NEAR(is, sum, 0x1p-24 * static_cast<double>(terms + 2) * magnitude);
          ASSERT_EQ(is, InOrder(test, a, b, i, j, add, was));
        }
      }
    }
  }
}

TEST_P(Bf16ProductTest, RoundsToNearestAndTiesToEven) {
  const float values[] = {1.0f, 1.00390625f, 1.01171875f, 1.005f, -1.00390625f, 3.0e-39f};
  const float expected[] = {1.0f, 1.0f, 1.015625f, 1.0078125f, -1.0f, 0.0f};
  const float one = 1;
  for (int i = 0; i < 6; ++i) {
    const Range k{0, 1};
    float c = 7;
    Bf16Product(functions(), {.m = 1,
                              .n = 1,
                              .a = {&values[i], DType::kF32, 1, true},
                              .b = {&one, DType::kF32, 1, true},
                              .k = {&k, 1},
                              .c = &c,
                              .ldc = 1});
    EXPECT_EQ(c, expected[i]) << values[i];
  }
}

TEST_P(Bf16ProductTest, NotANumberReachesItsRowAndColumnAlone) {
  std::mt19937_64 random(3);
  TestOperand a(random, 40, 70, DType::kF32, true), b(random, 50, 70, DType::kBF16, true);
  a.values[a.At(7, 69)] = std::numeric_limits<float>::quiet_NaN();
  const Range k{0, 70};
  Array<float> c({40, 50});
  Bf16Product(functions(), {.m = 40,
                            .n = 50,
                            .a = a.operand(),
                            .b = b.operand(),
                            .k = {&k, 1},
                            .c = c.tensor().as<float>(),
                            .ldc = 50});
  for (int64_t i = 0; i < c.size(); ++i) EXPECT_EQ(std::isnan(c[i]), i / 50 == 7) << i;
}

// The smallest numbers: operands and results below the least normal one are 0 on all units.
TEST_P(Bf16ProductTest, GivesTheSameBitsAsThePlainUnitForNumbersOfAnySize) {
#ifndef __FP_FAST_FMAF
  GTEST_SKIP() << "built without fused multiply-add, smallest products are flushed before they are added";
#endif
  TestOperand a(random, 33, 97, DType::kF32, true), b(random, 65, 97, DType::kF32, false);
  for (float& x : a.values) x *= static_cast<float>(std::exp2(std::floor(Uniform(random, -80, -40))));
  for (float& x : b.values) x *= static_cast<float>(std::exp2(std::floor(Uniform(random, -90, -40))));
  for (int64_t k = 0; k < 97; ++k) a.values[a.At(0, k)] *= 0x1p-60f;  // no product of this row is normal
  const Range k{0, 97};
  Array<float> sums[2] = {Array<float>({33, 65}), Array<float>({33, 65})};
  int i = 0;
  for (const Bf16Functions* unit : {&functions(), &PlainBf16Functions()}) {
    Bf16Product(*unit, {.m = 33,
                        .n = 65,
                        .a = a.operand(),
                        .b = b.operand(),
                        .k = {&k, 1},
                        .c = sums[i++].tensor().as<float>(),
                        .ldc = 65});
  }
  EXPECT_TRUE(sums[0].BitEquals(sums[1]));
  for (int64_t j = 0; j < sums[0].size(); ++j) ASSERT_EQ(sums[0][j] == 0, j < 65) << j;
}

std::string UnitName(const testing::TestParamInfo<Bf16Unit>& unit) {
  return unit.param == Bf16Unit::kAmx ? "Amx" : unit.param == Bf16Unit::kAvx512 ? "Avx512" : "Plain";
}
INSTANTIATE_TEST_SUITE_P(Units, Bf16ProductTest,
                         testing::Values(Bf16Unit::kPlain, Bf16Unit::kAvx512, Bf16Unit::kAmx), UnitName);

}  // namespace
}  // namespace unipool
