// Pieces of memory for what layers keep: apart while they are held, used again when they are released.
#include "models/saved_layers.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/models/small_model.h"

namespace unipool {
namespace {

// Where a tensor lies: [begin, end).
std::pair<char*, char*> PlaceOf(const Tensor& tensor) {
  char* begin = static_cast<char*>(tensor.data);
  return {begin, begin + tensor.bytes()};
}

std::vector<std::pair<char*, char*>> PlacesOf(const LayerSaved& saved) {
  const MoeLayer::Saved& moe = saved.moe;
  const AttentionLayer::Saved& attention = saved.attention;
  std::vector<std::pair<char*, char*>> places;
  for (const Tensor& tensor : {attention.x,
                               attention.inv_rms,
                               attention.normed,
                               attention.qkv,
                               attention.mixed,
                               attention.lse,
                               moe.h,
                               moe.inv_rms,
                               moe.normed,
                               moe.router.logits,
                               moe.router.scores,
                               moe.router.experts,
                               moe.router.weights,
                               moe.order.row_of,
                               moe.order.token_of,
                               moe.router.score_sum,
                               moe.router.counts,
                               moe.router.num_off,
                               moe.order.rows_of_expert,
                               moe.y}) {
    places.push_back(PlaceOf(tensor));
  }
  return places;
}

class SavedLayersTest : public testing::TestWithParam<bool> {
 protected:
  SavedLayersOptions Options(int64_t pieces) const {
    return {.tokens = 20,
            .num_layers = 3,
            .max_in_flight = 2,
            .num_pieces = pieces,
            .recompute_attention = GetParam()};
  }
  const ModelSpec spec_ = MakeModelSpec(ConfigOf({.experts = 7, .top_k = 2}));
  const ExpertPlacement placement_ = ContiguousPlacement(7, 1);
  MemoryMeter memory_;
};

TEST_P(SavedLayersTest, HeldPiecesDoNotOverlap) {
  SavedLayers layers(spec_, Options(2), placement_, memory_);
  std::vector<std::pair<char*, char*>> places;
  for (int microbatch = 4; microbatch < 6; ++microbatch) {  // any two that follow one another
    for (int layer = 0; layer < 3; ++layer) {
      for (const auto& place : PlacesOf(layers.Of(microbatch, layer))) places.push_back(place);
    }
  }
  std::sort(places.begin(), places.end());
  const int64_t shared = GetParam() ? 5 * 5 : 0;  // attention's five internals: one memory for six layers
  const auto unique_end = std::unique(places.begin(), places.end());
  EXPECT_EQ(places.end() - unique_end, shared);
  for (auto place = places.begin() + 1; place < unique_end; ++place) {
    EXPECT_GE(place->first, (place - 1)->second);
  }
}

TEST_P(SavedLayersTest, PiecesAreUsedAgain) {
  SavedLayers layers(spec_, Options(3), placement_, memory_);
  const int64_t bytes = memory_.peak_bytes();
  for (int microbatch = 0; microbatch < 10; ++microbatch) {
    for (int layer = 0; layer < 3; ++layer) {
      LayerSaved& saved = layers.Of(microbatch, layer);
      EXPECT_EQ(&layers.Of(microbatch, layer), &saved) << "held until released";
    }
    for (int layer = 0; layer < 3; ++layer) layers.Release(microbatch, layer);
  }
  EXPECT_EQ(memory_.peak_bytes(), bytes);
  for (int layer = 0; layer < 3; ++layer) layers.Of(0, layer);
  layers.Of(1, 0);  // one more than was reserved
  EXPECT_EQ(memory_.peak_bytes() - bytes, LayerSaved::Bytes(spec_, 20, DType::kF32, !GetParam()));
}

// Microbatches with fewer tokens lie apart in the same memory, and full ones do again afterwards.
TEST_P(SavedLayersTest, FewerTokensInTheSameMemory) {
  SavedLayers layers(spec_, Options(2), placement_, memory_);
  const LayerSaved& first = layers.Of(0, 0);
  const std::vector<std::pair<char*, char*>> full = PlacesOf(first);
  layers.Release(0, 0);
  const int64_t bytes = memory_.peak_bytes();
  for (const int64_t tokens : {7, 1, 20}) {
    layers.SetTokens(tokens);
    const LayerSaved& saved = layers.Of(0, 0);
    EXPECT_EQ(&saved, &first);
    EXPECT_EQ(saved.attention.qkv.rows(), tokens);
    EXPECT_EQ(saved.moe.router.experts.rows(), tokens);
    EXPECT_EQ(saved.moe.report.router.counts.data, saved.moe.router.counts.data);
    std::vector<std::pair<char*, char*>> places = PlacesOf(saved);
    if (tokens == 20) {
      EXPECT_EQ(places, full);
    }
    std::sort(places.begin(), places.end());
    for (size_t i = 1; i < places.size(); ++i) EXPECT_GE(places[i].first, places[i - 1].second);
    layers.Release(0, 0);
  }
  EXPECT_EQ(memory_.peak_bytes(), bytes);
}

INSTANTIATE_TEST_SUITE_P(RecomputeAttention, SavedLayersTest, testing::Bool());

}  // namespace
}  // namespace unipool
