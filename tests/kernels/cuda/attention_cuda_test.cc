#include <cmath>

#include "kernels/attention.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {

static std::ostream& operator<<(std::ostream& out, const AttentionShape& s) {
  return out << s.num_sequences << " sequences of " << s.sequence_length << ", " << s.num_heads << "/"
             << s.num_kv_heads << " heads of " << s.head_size;
}

namespace {

using CudaAttention = CudaTest;

// {sequences, length, heads, kv heads, head size}: below, at and above tiles of 32, 64 and 128 rows; all tile
// widths; head sizes between them, and ones that do not allow 16-byte accesses.
std::vector<AttentionShape> Shapes() {
  return {{1, 1, 1, 1, 16},   {3, 17, 4, 2, 32},  {2, 64, 6, 2, 16}, {1, 65, 2, 1, 48}, {1, 130, 2, 1, 64},
          {1, 130, 1, 1, 96}, {2, 33, 2, 2, 128}, {1, 97, 1, 1, 80}, {1, 40, 3, 1, 5},  {0, 8, 2, 1, 16}};
}

// Scores with a spread of about 1.5, so that some keys matter and others hardly.
constexpr double kRange = 2;

// A BF16 probability is off by at most 2^-8 of itself, so a row of out by 2^-8 of its largest value.
double OutBound(const CudaCase& c) {
  return c.dtype() == DType::kBF16 ? 0x1p-8 * kRange : 1e-6 * kRange;
}

// Probabilities and gradients of scores are rounded before they are multiplied with values of up to kRange;
// two such roundings, summed over keys or queries with weights that add up to about 1.
Bound GradientBound(const CudaCase& c) {
  const double rounding = c.dtype() == DType::kBF16 ? 0x1p-8 : 1e-6;
  return {.relative = rounding, .absolute = 2 * kRange * rounding};
}

TEST_F(CudaAttention, Forward) {
  ForEachCase(Shapes(), [](CudaCase& c, const AttentionShape& s) {
    const auto qkv = c.In("qkv", {s.tokens(), s.qkv_size()}, -kRange, kRange);
    const auto out = c.Out("out", {s.tokens(), s.out_size()}, {.relative = 1e-6, .absolute = OutBound(c)});
    const auto lse = c.Out("lse", {s.tokens(), s.num_heads}, {.relative = 1e-6, .absolute = 1e-5},
                           ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) { AttentionForward(stream, s, t[qkv], t[out], t[lse]); });
  });
}

// out and lse are the definition's, for a qkv that every dtype holds exactly.
TEST_F(CudaAttention, Backward) {
  ForEachCase(Shapes(), [](CudaCase& c, const AttentionShape& s) {
    std::vector<double> values(s.tokens() * s.qkv_size());
    for (double& value : values) value = kRange * (static_cast<double>(c.random()() % 128) / 64 - 1);
    std::vector<double> out_values(s.tokens() * s.out_size() + 1), lse_values(s.tokens() * s.num_heads + 1);
    MemoryMeter meter;
    Stream cpu(meter);
    std::vector<double> qkv_values = values;
    qkv_values.push_back(0);  // not null without elements
    AttentionForward(cpu, s, Tensor(qkv_values.data(), DType::kF64, {s.tokens(), s.qkv_size()}),
                     Tensor(out_values.data(), DType::kF64, {s.tokens(), s.out_size()}),
                     Tensor(lse_values.data(), DType::kF64, {s.tokens(), s.num_heads}));
    out_values.pop_back();
    lse_values.pop_back();
    const auto qkv = c.InValues("qkv", {s.tokens(), s.qkv_size()}, values, ArrayType::kData);
    const auto out = c.InValues("out", {s.tokens(), s.out_size()}, out_values, ArrayType::kData);
    const auto lse = c.InValues("lse", {s.tokens(), s.num_heads}, lse_values, ArrayType::kAccumulator);
    const auto dout = c.In("dout", {s.tokens(), s.out_size()}, -1, 1);
    const auto dqkv = c.Out("dqkv", {s.tokens(), s.qkv_size()}, GradientBound(c));
    c.Run([&](Stream& stream, const CaseTensors& t) {
      AttentionBackward(stream, s, t[qkv], t[out], t[lse], t[dout], t[dqkv]);
    });
  });
}

// Every query is a multiple of one key, chosen by its position, so that its probability is 1 up to e^-16:
// the output is that key's value, whose elements tell position, head and column.
TEST_F(CudaAttention, EveryQueryFindsItsKey) {
  const std::vector<AttentionShape> shapes = {
      {2, 140, 4, 2, 64}, {1, 70, 2, 1, 32}, {1, 150, 2, 1, 96}, {1, 90, 1, 1, 128}};
  ForEachCase(shapes, [](CudaCase& c, const AttentionShape& s) {
    const int64_t d = s.head_size, group = s.num_heads / s.num_kv_heads;
    std::vector<double> values(s.tokens() * s.qkv_size());
    const auto at = [&](int64_t token, int64_t head) {
      return values.data() + token * s.qkv_size() + head * d;
    };
    for (int64_t t = 0; t < s.tokens(); ++t) {
      const int64_t first = t / s.sequence_length * s.sequence_length;
      for (int64_t g = 0; g < s.num_kv_heads; ++g) {
        double *key = at(t, s.num_heads + g), *value = at(t, s.num_heads + s.num_kv_heads + g);
        for (int64_t j = 0; j < d; ++j) {
          key[j] = c.random()() % 2 == 0 ? 1 : -1;
          value[j] = static_cast<double>((t * 7 + g * 3 + j * 5) % 251);  // exact in bf16
        }
      }
      for (int64_t h = 0; h < s.num_heads; ++h) {
        const int64_t target = first + (t * 31 + h * 17) % (t - first + 1);
        for (int64_t j = 0; j < d; ++j) at(t, h)[j] = 32 * at(target, s.num_heads + h / group)[j];
      }
    }
    const auto qkv = c.InValues("qkv", {s.tokens(), s.qkv_size()}, values, ArrayType::kData);
    const auto out = c.Out("out", {s.tokens(), s.out_size()}, {.absolute = 1e-2});
    const auto lse = c.Out("lse", {s.tokens(), s.num_heads}, {.relative = 1e-6}, ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) { AttentionForward(stream, s, t[qkv], t[out], t[lse]); });
  });
}

// One row against a cache that is longer than the position needs.
void RunDecode(CudaCase& c, const AttentionShape& s, int64_t position) {
  const auto qkv = c.In("qkv", {1, s.qkv_size()}, -kRange, kRange);
  const auto cache = c.InOut("cache", {position + 3, 2 * s.num_kv_heads * s.head_size}, -kRange, kRange, {});
  const auto out = c.Out("out", {1, s.out_size()}, {.relative = 1e-6, .absolute = 2e-6});
  c.Run([&](Stream& stream, const CaseTensors& t) {
    AttentionDecode(stream, s, t[qkv], t[cache], position, t[out]);
  });
}

// Stretches of 256 keys meet at 300.
TEST_F(CudaAttention, Decode) {
  for (const int64_t position : {0, 1, 63, 64, 300}) {
    SCOPED_TRACE(position);
    const std::vector<AttentionShape> shapes = {{1, 1, 4, 2, 32}, {1, 1, 6, 2, 96}, {1, 1, 3, 1, 5}};
    ForEachCase(shapes, [&](CudaCase& c, const AttentionShape& s) { RunDecode(c, s, position); });
    if (HasFailure()) return;
  }
}

// 3 stretches of 256 keys; then more keys than 64 of those hold, so that stretches grow.
TEST_F(CudaAttention, DecodeJoinsManyStretches) {
  for (const int64_t position : {600, 16500}) {
    SCOPED_TRACE(position);
    ForEachCase({AttentionShape{1, 1, 2, 1, 4}},
                [&](CudaCase& c, const AttentionShape& s) { RunDecode(c, s, position); });
    if (HasFailure()) return;
  }
}

using CudaAttentionDeathTest = CudaTest;
TEST_F(CudaAttentionDeathTest, LargerHeadsAreRefused) {
  GTEST_FLAG_SET(death_test_style, "fast");
  const AttentionShape s = {1, 4, 1, 1, kMostCudaHeadSize + 8};
  std::vector<float> qkv(s.tokens() * s.qkv_size()), out(s.tokens() * s.out_size()), lse(s.tokens());
  MemoryMeter meter;
  Stream stream(meter, CudaQueue{});
  EXPECT_DEATH(AttentionForward(stream, s, Tensor(qkv.data(), DType::kF32, {s.tokens(), s.qkv_size()}),
                                Tensor(out.data(), DType::kF32, {s.tokens(), s.out_size()}),
                                Tensor(lse.data(), DType::kF32, {s.tokens(), s.num_heads})),
               "136 vs. 128.*heads of at most that size");
}

}  // namespace
}  // namespace unipool
