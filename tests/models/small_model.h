// Models small enough to be checked number by number, and the worlds and samples to run them with.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/training_engine.h"
#include "runtime/random.h"
#include "runtime/thread_communicator.h"

namespace unipool {

// A member of the family; sizes are primes or unequal, so that a mixed-up dimension shows.
struct SmallModel {
  RouterType::Value router = RouterType::NORM;
  Sharing::Value sharing = Sharing::GLOBAL;
  int groups = 1;
  Balance::Value balance = Balance::POOL_LOSS;
  BalanceScope::Value scope = BalanceScope::STEP;
  int experts = 7, top_k = 1, layers = 5;
  double coeff = 0.05;
  BalanceCounts::Value counts = BalanceCounts::ALL;
  bool hinge = false;
  BiasScope::Value bias_scope = BiasScope::POOL;
  int band = 0;
};

inline std::string NameOf(const SmallModel& m) {
  return Format("%s %s(%d) %s %s%s%s%s, %d experts, top %d", RouterType::Value_Name(m.router).c_str(),
                Sharing::Value_Name(m.sharing).c_str(), m.groups, Balance::Value_Name(m.balance).c_str(),
                BalanceScope::Value_Name(m.scope).c_str(),
                m.counts == BalanceCounts::POSITIVE ? " POSITIVE" : "", m.hinge ? " hinge" : "",
                m.bias_scope == BiasScope::LAYER ? " LAYER" : "", m.experts, m.top_k);
}

// Every preset kind: UniPool, vanilla MoE, dense, grouped pools, aux-free.
inline std::vector<SmallModel> PresetKinds() {
  return {
      {.experts = 7},
      {.router = RouterType::SOFTMAX,
       .sharing = Sharing::PRIVATE,
       .balance = Balance::LAYER_LOSS,
       .experts = 15,
       .top_k = 2},
      {.sharing = Sharing::DENSE, .balance = Balance::NONE, .experts = 5},
      {.sharing = Sharing::GROUPED, .groups = 2, .experts = 10, .top_k = 2, .layers = 4},
      {.router = RouterType::SIGMOID, .balance = Balance::BIAS, .experts = 7, .top_k = 2, .coeff = 0.002}};
}

inline std::vector<SmallModel> PoolVanillaAndDense(int layers) {
  return {{.experts = 7, .top_k = 2, .layers = layers},
          {.router = RouterType::SOFTMAX,
           .sharing = Sharing::PRIVATE,
           .balance = Balance::LAYER_LOSS,
           .experts = 2 * layers,
           .layers = layers},
          {.sharing = Sharing::DENSE, .balance = Balance::NONE, .experts = layers, .layers = layers}};
}

inline Config ConfigOf(const SmallModel& small) {
  Config config;
  ModelConfig& model = *config.mutable_model();
  model.set_layers(small.layers);
  model.set_hidden(24);
  model.set_heads(6);
  model.set_kv_heads(2);
  model.set_seq_length(10);
  model.set_vocab(11);
  model.set_vocab_multiple(13);
  model.set_rope_base(100);
  model.set_init_std(0.2);
  MoeConfig& moe = *config.mutable_moe();
  moe.set_experts(small.experts);
  moe.set_top_k(small.top_k);
  moe.set_width(5);
  moe.set_router(small.router);
  if (small.router == RouterType::NORM && small.sharing != Sharing::DENSE) moe.set_router_constant(1.7);
  moe.set_sharing(small.sharing);
  moe.set_groups(small.groups);
  if (small.band > 0) moe.set_band(small.band);
  moe.set_balance(small.balance);
  moe.set_balance_scope(small.scope);
  moe.set_balance_coeff(small.coeff);
  moe.set_balance_counts(small.counts);
  moe.set_balance_hinge(small.hinge);
  moe.set_bias_scope(small.bias_scope);
  TrainConfig& train = *config.mutable_train();
  train.set_steps(20);
  train.set_global_batch(12);
  train.set_micro_batch(1);
  return config;
}

// A world of one rank on this thread, also inside a test that runs as one of several ranks.
struct OneRank {
  std::unique_ptr<Communicator> communicator =
      std::move(MakeThreadCommunicators(1, {.exchange = std::chrono::minutes(1)})[0]);
  MemoryMeter memory;
  World world{.communicator = communicator.get(), .memory = &memory};
};

// Token `position` of a sequence of a step: the same on every layout, and with a pattern to learn.
inline int32_t SampleToken(uint64_t key, int64_t step, int64_t sequence, int64_t position, int64_t vocab) {
  const uint64_t start = RandomBits(key, step * 1'000'003 + sequence);
  const bool is_noise = RandomBits(start, position) % 4 == 0;
  const uint64_t value = is_noise ? RandomBits(start, position) >> 8 : start % 5 + position * (1 + start % 3);
  return static_cast<int32_t>(value % vocab);
}

// The samples of this rank in a step, kept in `tokens`: [rounds, b, s + 1].
inline Tensor SamplesOf(const TrainingEngine& engine, const Config& config, uint64_t key, int64_t step,
                        std::vector<int32_t>& tokens) {
  const int64_t rounds = engine.microbatches_per_rank(), micro_batch = config.train().micro_batch();
  const int64_t columns = config.model().seq_length() + 1;
  tokens.clear();
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < micro_batch; ++i) {
      for (int64_t position = 0; position < columns; ++position) {
        tokens.push_back(
            SampleToken(key, step, engine.SequenceIndex(m, i), position, config.model().vocab()));
      }
    }
  }
  return Tensor(tokens.data(), DType::kI32, {rounds, micro_batch, columns});
}

}  // namespace unipool
