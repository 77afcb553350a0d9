#include <random>

#include "kernels/host_values.h"
#include "tests/kernels/cuda/cuda_bits.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaHostValues = CudaTest;

// One launch takes 3840 bytes. `raw` holds the bits that each value is to have.
template <class Raw>
void SetAndCompare(DType dtype, const std::vector<double>& values, const std::vector<Raw>& raw) {
  SCOPED_TRACE(testing::Message() << values.size() << " x " << NameOf(dtype));
  const auto n = static_cast<int64_t>(values.size());
  ForEachCudaRun([&](CudaRun& run) {
    Raw* to = run.Put(std::vector<Raw>(n + 1, Raw{77}), "to");
    std::vector<double> given = values;
    SetValues(run.stream(), given, Tensor(to, dtype, {n}));
    given.assign(n, 0);  // free before a device has run anything
    std::vector<Raw> expected = raw;
    expected.push_back(Raw{77});
    EXPECT_EQ(run.Get(to, n + 1), expected);
  });
}

template <class Raw>
void EveryCount(DType dtype) {
  const int64_t chunk = 3840 / sizeof(Raw);
  for (const int64_t n : {int64_t{0}, int64_t{1}, chunk - 1, chunk, chunk + 1, 2 * chunk + 3}) {
    std::mt19937_64 random(n + 1);
    std::vector<double> values(n);
    std::vector<Raw> raw(n);
    for (int64_t i = 0; i < n; ++i) {
      values[i] = static_cast<double>(random() >> 20) * 0x1p-14 - 1e9;
      if (!std::is_floating_point_v<Raw>) values[i] = static_cast<double>(i * 1000003 - 5);
      raw[i] = static_cast<Raw>(values[i]);
    }
    SetAndCompare<Raw>(dtype, values, raw);
  }
}

TEST_F(CudaHostValues, EveryType) {
  EveryCount<double>(DType::kF64);
  EveryCount<float>(DType::kF32);
  EveryCount<int32_t>(DType::kI32);
  EveryCount<int64_t>(DType::kI64);
}

TEST_F(CudaHostValues, Rounding) {
  SetAndCompare<uint16_t>(DType::kBF16, {1, -2, 1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1p-7, 0x1.018p0, -0.0},
                          {0x3f80, 0xc000, 0x3f80, 0x3f82, 0x3f81, 0x3f81, 0x8000});
  SetAndCompare<int32_t>(DType::kI32, {0.5, 1.5, -1.7, 2147483647}, {0, 2, -2, 2147483647});
  SetAndCompare<int64_t>(DType::kI64, {0x1p62, -2.5}, {int64_t{1} << 62, -2});
}

TEST_F(CudaHostValues, ManyInBf16) {
  std::vector<double> values(1920 * 2 + 1);
  std::vector<uint16_t> raw(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<double>(i % 256);
    const auto single = static_cast<float>(values[i]);
    uint32_t bits;
    std::memcpy(&bits, &single, sizeof(bits));
    raw[i] = static_cast<uint16_t>(bits >> 16);
  }
  SetAndCompare<uint16_t>(DType::kBF16, values, raw);
}

}  // namespace
}  // namespace unipool
