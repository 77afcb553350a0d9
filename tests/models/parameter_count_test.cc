// Parameter counts against the published totals and against a sum over every tensor name on disk.
#include "models/parameter_count.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "models/memory_plan.h"
#include "models/settings.h"
#include "models/stage_layers.h"

namespace unipool {
namespace {

struct Scale {
  const char* name;
  int layers, hidden, heads, width, experts;
  double total, half_digit;  // as published, and half a unit of its last digit
};
const Scale kScales[] = {{"182M", 12, 768, 12, 3072, 96, 777.9e6, 0.05e6},
                         {"469M", 24, 1024, 16, 4096, 192, 2.588e9, 0.5e6},
                         {"650M", 36, 1024, 16, 4096, 288, 3.834e9, 0.5e6},
                         {"830M", 48, 1024, 16, 4096, 384, 5.081e9, 0.5e6},
                         {"978M", 24, 1536, 16, 6144, 192, 5.742e9, 0.5e6}};

Config ConfigOf(const Scale& scale, int vocab_multiple) {
  Config config;
  ModelConfig& model = *config.mutable_model();
  model.set_layers(scale.layers);
  model.set_hidden(scale.hidden);
  model.set_heads(scale.heads);
  model.set_kv_heads(4);
  model.set_vocab(50257);
  model.set_vocab_multiple(vocab_multiple);
  config.mutable_moe()->set_experts(scale.experts);
  config.mutable_moe()->set_width(scale.width);
  return config;
}

// Sum over the tensors of the format on disk, each as rows x columns.
int64_t SumOfTensors(const Config& config) {
  const ModelConfig& m = config.model();
  const int64_t d = m.hidden(), head = d / m.heads(), kv = head * m.kv_heads(), f = config.moe().width();
  int64_t rows = m.vocab();
  while (rows % m.vocab_multiple() != 0) ++rows;
  int64_t sum = rows * d + rows * d + d;  // embed_tokens, lm_head, norm
  for (int layer = 0; layer < m.layers(); ++layer) {
    sum += d + d;                            // input_layernorm, post_attention_layernorm
    sum += d * d + kv * d + kv * d + d * d;  // q, k, v, o
    if (config.moe().sharing() != Sharing::DENSE) sum += config.moe().experts() * d;  // router.weight
    if (config.moe().sharing() != Sharing::DENSE && HasSigma(RouterKindOf(config.moe().router())))
      sum += 1;  // router.scale
  }
  for (int i = 0; i < config.moe().experts(); ++i) sum += f * d + f * d + d * f;  // gate, up, down
  return sum;
}

TEST(ParameterCount, PublishedTotalsNeedPaddingTo51200Rows) {
  for (const Scale& scale : kScales) {
    const Config config = ConfigOf(scale, 1024);
    EXPECT_EQ(PaddedVocab(config.model()), 51200);
    EXPECT_NEAR(CountParameters(config).total(), scale.total, scale.half_digit) << scale.name;
    EXPECT_EQ(CountParameters(config).total(), SumOfTensors(config)) << scale.name;
    // The usual paddings (none, 64, 128, 256, 512) miss every total.
    for (int multiple : {1, 64, 128, 256, 512}) {
      EXPECT_GT(std::abs(CountParameters(ConfigOf(scale, multiple)).total() - scale.total), scale.half_digit)
          << scale.name << " " << multiple;
    }
  }
}

TEST(ParameterCount, ScaleNamesAreTheDenseModels) {
  const double names[] = {182e6, 469e6, 650e6, 830e6, 978e6};
  for (int i = 0; i < 5; ++i) {
    Config config = ConfigOf(kScales[i], 1024);
    config.mutable_moe()->set_experts(kScales[i].layers);
    config.mutable_moe()->set_sharing(Sharing::DENSE);
    EXPECT_NEAR(CountParameters(config).total() / names[i], 1, 0.01) << kScales[i].name;
    EXPECT_EQ(CountActiveParameters(config), CountParameters(config).total());
    EXPECT_EQ(CountParameters(config).router, 0);
  }
}

TEST(ParameterCount, KindsOfASmallModel) {
  Config config;
  config.mutable_model()->set_layers(3);
  config.mutable_model()->set_hidden(12);
  config.mutable_model()->set_heads(3);
  config.mutable_model()->set_kv_heads(1);
  config.mutable_model()->set_vocab(10);
  config.mutable_moe()->set_experts(5);
  config.mutable_moe()->set_width(7);
  config.mutable_moe()->set_top_k(2);
  const ParameterCount count = CountParameters(config);
  EXPECT_EQ(count.embedding, 120);
  EXPECT_EQ(count.head, 120);
  EXPECT_EQ(count.attention, 3 * (144 + 48 + 48 + 144));
  EXPECT_EQ(count.router, 3 * (5 * 12 + 1));
  EXPECT_EQ(count.experts, 5 * 3 * 7 * 12);
  EXPECT_EQ(count.norms, 3 * 24 + 12);
  EXPECT_EQ(CountActiveParameters(config), count.total() - count.experts + 3 * 2 * 3 * 7 * 12);
  config.mutable_moe()->set_router(RouterType::SIGMOID);
  config.mutable_moe()->set_balance(Balance::BIAS);
  EXPECT_EQ(CountParameters(config).router, 3 * 5 * 12);
}

// Every layout holds each expert once per replica and each dense parameter once per data rank, unevenly
// divisible or not; a spread head's weight once per rank.
void CheckRanks(Config config, const MeshShape& shape) {
  config.mutable_train()->set_global_batch(8 * shape.data_ranks());
  const ParameterCount whole = CountParameters(config);
  const bool is_spread = HeadPlaceOf(config, shape) == HeadPlace::kSpread;
  EXPECT_EQ(is_spread, config.parallel().head() == ParallelConfig::SPREAD && shape.stages > 1);
  int64_t dense = 0, experts = 0, optimizer = 0;
  for (int rank = 0; rank < shape.world(); ++rank) {
    const ParameterCount count = CountParametersOfRank(config, shape, rank);
    dense += count.dense();
    experts += count.experts;
    const MemoryPlan plan = PlanMemory(config, shape, rank);
    // A router's scale takes the room of eight numbers.
    const int layers = LayersPerStage(config, shape)[PositionOf(shape, rank).stage];
    EXPECT_EQ(plan[MemoryKind::kParameters], 4 * (count.total() + 7 * layers));
    EXPECT_EQ(plan[MemoryKind::kGradients], 4 * (count.total() + 7 * layers));
    optimizer += plan[MemoryKind::kOptimizer];
  }
  const int copies_of_head = is_spread ? shape.world() : shape.data_ranks();
  EXPECT_EQ(dense, (whole.dense() - whole.head) * shape.data_ranks() + whole.head * copies_of_head);
  EXPECT_EQ(experts, whole.experts * shape.replicas);
  EXPECT_EQ(optimizer, 8 * (whole.dense() + 7 * 5 + whole.experts * shape.replicas));
}

TEST(ParameterCount, RanksAddUpToTheModel) {
  Config config;
  config.mutable_model()->set_layers(5);
  config.mutable_moe()->set_experts(7);
  for (const auto head : {ParallelConfig::LAST_STAGE, ParallelConfig::SPREAD}) {
    config.mutable_parallel()->set_head(head);
    for (int replicas = 1; replicas <= 2; ++replicas) {
      for (int stages = 1; stages <= 5; ++stages) {
        for (int data = 1; data <= 4; ++data)
          CheckRanks(config, {.replicas = replicas, .stages = stages, .data = data});
      }
    }
  }
}

}  // namespace
}  // namespace unipool
