#include <algorithm>
#include <numeric>

#include "kernels/row_order.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaRowOrder = CudaTest;

// What nothing writes stays: -7 in every output.
void CompareOrder(const ExpertShape& s, double share_sent) {
  SCOPED_TRACE(testing::Message() << s << ", sent " << share_sent);
  CudaCase c({DType::kF32, false}, s.tokens + s.experts);
  const int64_t num_choices = s.tokens * s.top_k;
  std::vector<double> experts(num_choices), weights(num_choices), send_index(s.experts);
  for (double& e : experts) {
    const auto any = static_cast<int64_t>(c.random()() % s.experts);
    e = s.spread == ExpertSpread::kAllToOne                          ? static_cast<double>(s.experts / 2)
        : s.spread == ExpertSpread::kSkewed && c.random()() % 2 == 0 ? static_cast<double>(any % 3)
                                                                     : static_cast<double>(any);
    e = std::min(e, static_cast<double>(s.experts - 1));
  }
  for (double& w : weights) {
    const bool sent = static_cast<double>(c.random()() >> 11) * 0x1p-53 < share_sent;
    w = sent ? static_cast<double>(c.random()() % 99 + 1) / 8 : 0;
  }
  std::iota(send_index.begin(), send_index.end(), 0);
  std::shuffle(send_index.begin(), send_index.end(), c.random());
  const auto chosen = c.InValues("experts", {s.tokens, s.top_k}, experts, ArrayType::kI32);
  const auto weighed = c.InValues("weights", {s.tokens, s.top_k}, weights, ArrayType::kF32);
  const auto places = c.InValues("send_index", {s.experts}, send_index, ArrayType::kI32);
  const auto out = [&](const char* name, const CudaCase::Shape& shape, int64_t n) {
    return c.InOutValues(name, shape, std::vector<double>(n, -7), {}, ArrayType::kI32);
  };
  const auto row_of = out("row_of", {s.tokens, s.top_k}, num_choices);
  const auto token_of = out("token_of", {num_choices}, num_choices);
  const auto rows_of_expert = out("rows_of_expert", {s.experts}, s.experts);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    OrderRows(stream, t[chosen], t[weighed], t[places],
              {.row_of = t[row_of], .token_of = t[token_of], .rows_of_expert = t[rows_of_expert]});
  });
}

TEST_F(CudaRowOrder, EveryShape) {
  for (const ExpertShape& shape : ExpertShapes()) {
    for (const double share_sent : {1.0, 0.6, 0.0}) CompareOrder(shape, share_sent);
  }
}

// One block takes 2048 choices.
TEST_F(CudaRowOrder, SeveralChunks) {
  for (const ExpertShape& shape :
       {ExpertShape{2048, 1, 1, ExpertSpread::kEven}, ExpertShape{2049, 33, 1, ExpertSpread::kSkewed},
        ExpertShape{1000, 1024, 5, ExpertSpread::kEven}, ExpertShape{640, 384, 8, ExpertSpread::kSkewed},
        ExpertShape{2100, 64, 2, ExpertSpread::kAllToOne}}) {
    CompareOrder(shape, 0.9);
  }
}

// A slice of the scan over chunks takes one chunk as long as there are 32 at most.
TEST_F(CudaRowOrder, ManyChunksLarge) {
  CompareOrder({9000, 40, 8, ExpertSpread::kSkewed}, 0.9);
}

}  // namespace
}  // namespace unipool
