#include "kernels/embedding.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaEmbedding = CudaTest;

struct TokenShape {
  int64_t tokens, vocabulary, width;
};
std::ostream& operator<<(std::ostream& out, const TokenShape& s) {
  return out << s.tokens << " tokens, " << s.vocabulary << " rows of " << s.width;
}
// One id for all; ids that come once; runs that end in, at and behind chunks and tiles. A round of sums
// leaves about a sixteenth of its rows to the next: 33 tokens take two rounds, 1025 three.
std::vector<TokenShape> TokenShapes() {
  return {{0, 5, 64},  {1, 1, 1},     {31, 1, 8},   {32, 1, 100},  {33, 1, 64},
          {96, 2, 17}, {200, 7, 136}, {1024, 3, 8}, {1025, 1, 16}, {2500, 40, 9}};
}

std::vector<double> RandomTokens(CudaCase& c, const TokenShape& s) {
  std::vector<double> tokens(s.tokens);
  for (double& token : tokens) token = static_cast<double>(c.random()() % s.vocabulary);
  return tokens;
}

TEST_F(CudaEmbedding, Forward) {
  for (const ArrayType to : {ArrayType::kData, ArrayType::kF32}) {
    ForEachCase({TokenShape{0, 5, 64}, TokenShape{9, 300, 1}, TokenShape{33, 17, 257}, TokenShape{70, 9, 96}},
                [&](CudaCase& c, const TokenShape& s) {
                  const auto tokens = c.InValues("tokens", {s.tokens}, RandomTokens(c, s), ArrayType::kI32);
                  const auto table = c.In("table", {s.vocabulary, s.width}, -9, 9);
                  const auto out = c.Out("out", {s.tokens, s.width}, {}, to);
                  c.Run([&](Stream& stream, const CaseTensors& t) {
                    EmbeddingForward(stream, t[tokens], t[table], t[out]);
                  });
                });
  }
}

void Backward(const std::vector<TokenShape>& shapes) {
  ForEachCase(shapes, [](CudaCase& c, const TokenShape& s) {
    const auto tokens = c.InValues("tokens", {s.tokens}, RandomTokens(c, s), ArrayType::kI32);
    const auto dout = c.In("dout", {s.tokens, s.width}, -1, 1);
    const double most_rows = 1 + static_cast<double>(s.tokens) / static_cast<double>(s.vocabulary);
    const auto dtable = c.InOut("dtable", {s.vocabulary, s.width}, -1, 1, {.absolute = 3e-7 * most_rows},
                                ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      EmbeddingBackward(stream, t[tokens], t[dout], t[dtable]);
    });
  });
}
TEST_F(CudaEmbedding, Backward) {
  Backward(TokenShapes());
}
TEST_F(CudaEmbedding, BackwardLarge) {
  Backward({{1, 50304, 24}, {300, 5000, 8}, {2048, 4000, 8}});
}
// Four rounds.
TEST_F(CudaEmbedding, BackwardInManyRoundsLarge) {
  Backward({{32800, 1, 1}});
}

// Long runs of few ids between ids that come once.
TEST_F(CudaEmbedding, BackwardOfUnequalTokens) {
  ForEachCase({TokenShape{1500, 600, 8}}, [](CudaCase& c, const TokenShape& s) {
    std::vector<double> ids = RandomTokens(c, s);
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i % 3 == 0) ids[i] = 0;
      if (i % 7 == 0) ids[i] = 299;
    }
    const auto tokens = c.InValues("tokens", {s.tokens}, ids, ArrayType::kI32);
    const auto dout = c.In("dout", {s.tokens, s.width}, -1, 1);
    const auto dtable =
        c.InOut("dtable", {s.vocabulary, s.width}, -1, 1, {.absolute = 3e-5}, ArrayType::kAccumulator);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      EmbeddingBackward(stream, t[tokens], t[dout], t[dtable]);
    });
  });
}

}  // namespace
}  // namespace unipool
