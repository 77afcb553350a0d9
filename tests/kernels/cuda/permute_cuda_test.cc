#include <algorithm>

#include "kernels/permute.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaPermute = CudaTest;

struct ChoiceShape {
  int64_t tokens, top_k, width;
  double share_sent;
  int64_t rows = 0;  // filled by RowOf
};
std::ostream& operator<<(std::ostream& out, const ChoiceShape& s) {
  return out << s.tokens << " tokens of " << s.width << ", top " << s.top_k << ", sent " << s.share_sent;
}
std::vector<ChoiceShape> ChoiceShapes() {
  return {{0, 2, 64, 1},   {1, 1, 1, 1},    {1, 1, 8, 0},    {3, 2, 17, 0.5},   {33, 8, 100, 0.8},
          {5, 64, 48, .9}, {9, 2, 2055, 1}, {2, 3, 4224, 1}, {70, 1, 256, 0.7}, {3, 2, 1536, 0.8}};
}

// A row for every choice that is sent, in random order.
std::vector<double> RowOf(CudaCase& c, ChoiceShape& s) {
  std::vector<double> row_of(s.tokens * s.top_k, -1);
  std::vector<int64_t> sent;
  for (int64_t i = 0; i < s.tokens * s.top_k; ++i) {
    if (static_cast<double>(c.random()() >> 11) * 0x1p-53 < s.share_sent) sent.push_back(i);
  }
  std::shuffle(sent.begin(), sent.end(), c.random());
  for (size_t row = 0; row < sent.size(); ++row) row_of[sent[row]] = static_cast<double>(row);
  s.rows = static_cast<int64_t>(sent.size());
  return row_of;
}

std::vector<double> RandomIndex(CudaCase& c, int64_t n, int64_t limit) {
  std::vector<double> index(n);
  for (double& i : index) i = static_cast<double>(c.random()() % limit);
  return index;
}

// Tokens of the type under test, and in F32 beside rows of the type under test.
constexpr ArrayType kTokenTypes[] = {ArrayType::kData, ArrayType::kF32};

TEST_F(CudaPermute, Gather) {
  for (const ArrayType to : kTokenTypes) {
    for (const ArrayType from : kTokenTypes) {
      ForEachCase(RowShapes(), [&](CudaCase& c, const RowShape& s) {
        const int64_t num_sources = 7;
        const auto src = c.In("src", {num_sources, s.width}, -9, 9, from);
        const auto index =
            c.InValues("index", {s.rows}, RandomIndex(c, s.rows, num_sources), ArrayType::kI32);
        const auto dst = c.Out("dst", {s.rows, s.width}, {}, to);
        c.Run([&](Stream& stream, const CaseTensors& t) { Permute(stream, t[src], t[index], t[dst]); });
      });
    }
  }
}

TEST_F(CudaPermute, Combine) {
  for (const ArrayType token : kTokenTypes) {
    ForEachCase(ChoiceShapes(), [&](CudaCase& c, ChoiceShape s) {
      const auto row_of = c.InValues("row_of", {s.tokens, s.top_k}, RowOf(c, s), ArrayType::kI32);
      const auto rows = c.In("rows", {s.rows, s.width}, -2, 3);
      const auto weights = c.In("weights", {s.tokens, s.top_k}, 0, 2, ArrayType::kAccumulator);
      const auto residual = c.In("residual", {s.tokens, s.width}, -1, 1, token);
      const auto out =
          c.Out("out", {s.tokens, s.width}, {.relative = 1e-6, .absolute = 1e-6 * s.top_k}, token);
      c.Run([&](Stream& stream, const CaseTensors& t) {
        Unpermute(stream, t[rows], t[row_of], t[weights], t[residual], t[out]);
      });
    });
  }
}

TEST_F(CudaPermute, ResidualMayBeTheOutput) {
  ForEachCase({ChoiceShape{5, 2, 1100, 0.8}}, [](CudaCase& c, ChoiceShape s) {
    const auto row_of = c.InValues("row_of", {s.tokens, s.top_k}, RowOf(c, s), ArrayType::kI32);
    const auto rows = c.In("rows", {s.rows, s.width}, -2, 3);
    const auto weights = c.In("weights", {s.tokens, s.top_k}, 0, 2, ArrayType::kAccumulator);
    const auto out = c.InOut("out", {s.tokens, s.width}, -1, 1, {.relative = 1e-6, .absolute = 1e-6});
    c.Run([&](Stream& stream, const CaseTensors& t) {
      Unpermute(stream, t[rows], t[row_of], t[weights], t[out], t[out]);
    });
  });
}

TEST_F(CudaPermute, CombineBackward) {
  for (const ArrayType token : kTokenTypes) {
    ForEachCase(ChoiceShapes(), [&](CudaCase& c, ChoiceShape s) {
      const auto row_of = c.InValues("row_of", {s.tokens, s.top_k}, RowOf(c, s), ArrayType::kI32);
      const auto rows = c.In("rows", {s.rows, s.width}, -2, 3);
      const auto weights = c.In("weights", {s.tokens, s.top_k}, 0, 2, ArrayType::kAccumulator);
      const auto dout = c.In("dout", {s.tokens, s.width}, -1, 1, token);
      const auto drows = c.Out("drows", {s.rows, s.width}, {.relative = 1e-6});
      const auto dweights = c.Out("dweights", {s.tokens, s.top_k}, {.absolute = 1e-6 + 1e-7 * s.width},
                                  ArrayType::kAccumulator);
      c.Run([&](Stream& stream, const CaseTensors& t) {
        UnpermuteBackward(stream, t[dout], t[rows], t[row_of], t[weights], t[drows], t[dweights]);
      });
    });
  }
}

TEST_F(CudaPermute, RowsMayBecomeTheirGradient) {
  ForEachCase({ChoiceShape{5, 2, 1100, 0.8}, ChoiceShape{2, 2, 3000, 1}}, [](CudaCase& c, ChoiceShape s) {
    const auto row_of = c.InValues("row_of", {s.tokens, s.top_k}, RowOf(c, s), ArrayType::kI32);
    const auto rows = c.InOut("rows", {s.rows, s.width}, -2, 3, {.relative = 1e-6});
    const auto weights = c.In("weights", {s.tokens, s.top_k}, 0, 2, ArrayType::kAccumulator);
    const auto dout = c.In("dout", {s.tokens, s.width}, -1, 1);
    const auto dweights =
        c.Out("dweights", {s.tokens, s.top_k}, {.absolute = 1e-6 + 1e-7 * s.width}, ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      UnpermuteBackward(stream, t[dout], t[rows], t[row_of], t[weights], t[rows], t[dweights]);
    });
  });
}

TEST_F(CudaPermute, Sum) {
  for (const ArrayType token : kTokenTypes) {
    ForEachCase(ChoiceShapes(), [&](CudaCase& c, ChoiceShape s) {
      const auto row_of = c.InValues("row_of", {s.tokens, s.top_k}, RowOf(c, s), ArrayType::kI32);
      const auto rows = c.In("rows", {s.rows, s.width}, -2, 3);
      const auto out =
          c.Out("out", {s.tokens, s.width}, {.relative = 1e-6, .absolute = 1e-6 * s.top_k}, token);
      c.Run(
          [&](Stream& stream, const CaseTensors& t) { PermuteBackward(stream, t[rows], t[row_of], t[out]); });
    });
  }
}

}  // namespace
}  // namespace unipool
