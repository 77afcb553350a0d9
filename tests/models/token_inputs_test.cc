// Inputs are the tokens of a sequence but the last, targets the tokens but the first.
#include "models/token_inputs.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

std::vector<int32_t> ValuesOf(const Tensor& ids) {
  return {ids.as<int32_t>(), ids.as<int32_t>() + ids.size()};
}

TEST(TokenInputs, ShiftsSequencesByOneToken) {
  ModelSpec spec;
  spec.seq_length = 3;
  MemoryMeter memory;
  Stream stream(memory);
  DenseParameters parameters;
  TokenInputs inputs(spec, /*tokens=*/6, /*is_first=*/false, parameters, nullptr, stream, memory);
  EXPECT_TRUE(parameters.list().empty()) << "the embedding is the first stage's";
  for (const int64_t microbatches : {2, 3, 1}) {  // memory grows, and is used again
    std::vector<int32_t> samples;                 // 100 * microbatch + 10 * sequence + position
    for (int32_t m = 0; m < microbatches; ++m) {
      for (int32_t i = 0; i < 2; ++i) {
        for (int32_t position = 0; position < 4; ++position) samples.push_back(100 * m + 10 * i + position);
      }
    }
    inputs.Set(Tensor(samples.data(), DType::kI32, {microbatches, 2, 4}));
    samples.assign(samples.size(), -1);  // they were copied
    for (int32_t m = 0; m < microbatches; ++m) {
      EXPECT_EQ(ValuesOf(inputs.inputs(m)), (std::vector<int32_t>{100 * m, 100 * m + 1, 100 * m + 2,
                                                                  100 * m + 10, 100 * m + 11, 100 * m + 12}));
      EXPECT_EQ(ValuesOf(inputs.targets(m)),
                (std::vector<int32_t>{100 * m + 1, 100 * m + 2, 100 * m + 3, 100 * m + 11, 100 * m + 12,
                                      100 * m + 13}));
    }
  }
}

}  // namespace
}  // namespace unipool
