#include "tools/bench/placement_model.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "runtime/random.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

constexpr int kHidden = 128, kMicrobatches = 8;
constexpr uint64_t kUnseen = 1'000'000'000;  // no step trains on this sequence

// Each sequence speaks one of 16 languages: where it goes from a token is a rule of the language, broken by
// one token in eight.
int32_t Token(uint64_t sequence, int64_t position, int32_t before) {
  const uint64_t language = RandomBits(11, sequence) % 16, noise = RandomBits(sequence + 1000, position);
  if (position == 0 || noise % 8 == 0) return static_cast<int32_t>((noise >> 8) % kVocab);
  return static_cast<int32_t>((before * (2 * language + 3) + 37 * language + position % 2) % kVocab);
}

void CopyOut(const TrainingEngine& engine, Weights& weights) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  for (const DiskTensor& tensor : engine.state().Weights()) {
    const char* data = static_cast<const char*>(tensor.value.data);
    if (tensor.writes) weights[tensor.name].assign(data, data + tensor.value.bytes());
  }
}

}  // namespace

Config PlacementConfig(int ranks, int stages, int microbatches, int micro_batch, int shadows) {
  Config config;
  ModelConfig& model = *config.mutable_model();
  model.set_layers(kLayers);
  model.set_hidden(kHidden);
  model.set_heads(4);
  model.set_kv_heads(2);
  model.set_seq_length(kSequence);
  model.set_vocab(kVocab);
  model.set_init_std(0.08);
  config.mutable_moe()->set_experts(kExperts);
  config.mutable_moe()->set_width(512);
  config.mutable_moe()->set_balance_coeff(1e-3);
  config.mutable_train()->set_beta2(0.99);
  config.mutable_train()->set_micro_batch(micro_batch);
  config.mutable_train()->set_global_batch(micro_batch * microbatches * ranks / stages);
  config.mutable_parallel()->set_ranks(ranks);
  config.mutable_parallel()->set_stages(stages);
  config.mutable_parallel()->set_placement(ParallelConfig::CONTIGUOUS);
  config.mutable_parallel()->set_shadow_experts(shadows);
  return config;
}

Tensor SamplesOf(const TrainingEngine& engine, const Config& config, int64_t step,
                 std::vector<int32_t>& tokens) {
  const int64_t rounds = engine.microbatches_per_rank(), micro_batch = config.train().micro_batch();
  tokens.clear();
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < micro_batch; ++i) {
      const uint64_t sequence = step * config.train().global_batch() + engine.SequenceIndex(m, i);
      for (int64_t p = 0; p <= kSequence; ++p) {
        tokens.push_back(Token(sequence, p, p > 0 ? tokens.back() : 0));
      }
    }
  }
  return Tensor(tokens.data(), DType::kI32, {rounds, micro_batch, kSequence + 1});
}

void CopyIn(const Weights& weights, const TrainingEngine& engine) {
  for (const DiskTensor& tensor : engine.state().Weights()) {
    const std::vector<char>& data = weights.at(tensor.name);
    CHECK_EQ(static_cast<int64_t>(data.size()), tensor.value.bytes());
    std::memcpy(tensor.value.data, data.data(), data.size());
  }
}

Weights Train(int steps) {
  Weights weights;
  const Config config = PlacementConfig(2, 1, 2, /*micro_batch=*/4, 0);
  CHECK_EQ(RunWorld({.num_threads = 2},
                    [&](World& world) {
                      TrainingEngine engine(config, world);
                      std::vector<int32_t> tokens;
                      for (int64_t step = 0; step < steps; ++step) {
                        const double lr = 3e-3 * std::min(1.0, static_cast<double>(step + 1) / 20);
                        const StepReport report =
                            engine.TrainStep(step, lr, SamplesOf(engine, config, step, tokens));
                        if (world.rank() == 0 && step > 0 && (step == 1 || step + 1 == steps)) {
                          const std::string line =
                              Format("step %d: loss %.3f (%.3f for chance), pool loss %.3f x balance\n",
                                     step + 1, report.loss, std::log(kVocab),
                                     report.load.pool_loss / report.load.pool_loss_at_balance);
                          std::fputs(line.c_str(), stdout);
                        }
                      }
                      CopyOut(engine, weights);
                    }),
           0);
  return weights;
}

// All tokens have a direction in common, so every layer's router leans towards experts of its own.
Weights LeaningRouters() {
  Weights weights;
  const Config config = PlacementConfig(1, 1, 1, /*micro_batch=*/4, 0);
  CHECK_EQ(RunWorld({},
                    [&](World& world) {
                      const TrainingEngine engine(config, world);
                      CopyOut(engine, weights);
                    }),
           0);
  std::vector<char>& embedding = weights.at("model.embed_tokens.weight");
  auto* values = reinterpret_cast<float*>(embedding.data());
  for (int token = 0; token < kVocab; ++token) values[token * kHidden] = 0.45;
  return weights;
}

// Channel of the tokens that choose no expert.
constexpr int kChannelOfNone = 64;

Weights LevelRouters(Weights weights) {
  const auto values = [&](const std::string& name) {
    return reinterpret_cast<float*>(weights.at(name).data());
  };
  float* embedding = values("model.embed_tokens.weight");
  for (int token = 0; token < kVocab; ++token) {
    const int channel = token < kSequence ? token % kExperts : kChannelOfNone;
    embedding[token * kHidden + channel] = 1000;  // about all of a normed vector, whatever layers add
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    float* router = values("model.layers." + std::to_string(layer) + ".mlp.router.weight");
    std::fill_n(router, kExperts * kHidden, 0.0F);
    for (int expert = 0; expert < kExperts; ++expert) {
      router[expert * kHidden + expert] = 1;
      router[expert * kHidden + kChannelOfNone] = -1;
    }
  }
  return weights;
}

Tensor LevelSamples(const TrainingEngine& engine, const Config& config, std::vector<int32_t>& tokens) {
  const int64_t rounds = engine.microbatches_per_rank(), micro_batch = config.train().micro_batch();
  const int source = engine.parts().mesh.data_rank();
  tokens.clear();
  for (int64_t i = 0; i < rounds * micro_batch; ++i) {
    for (int p = 0; p <= kSequence; ++p) tokens.push_back(p % kSequence);
    int32_t* sequence = tokens.data() + tokens.size() - kSequence - 1;
    for (int n = 0; n < 2 && micro_batch % 4 == 0; ++n) {
      const int64_t expert = (4 * (2 * (i % micro_batch) + n) + source) % kExperts;
      sequence[kExperts + expert] = kVocab - 1;
    }
  }
  return Tensor(tokens.data(), DType::kI32, {rounds, micro_batch, kSequence + 1});
}

void WriteFolder(const std::string& folder, const Weights& weights) {
  std::filesystem::create_directories(folder);
  CHECK_EQ(RunWorld({},
                    [&](World& world) {
                      const TrainingEngine engine(PlacementConfig(1, 1, 1, /*micro_batch=*/4, 0), world);
                      CopyIn(weights, engine);
                      TensorFileWriter file(folder + "/model.safetensors");
                      const std::vector<DiskTensor> list = engine.state().Weights();
                      for (const DiskTensor& t : list) file.Declare(t.name, t.value.dtype, t.shape);
                      for (const DiskTensor& t : list) file.Append(t.value.data, t.value.bytes());
                      file.Close();
                    }),
           0);
  std::string text;
  for (uint64_t sequence = kUnseen; sequence < kUnseen + 4096; ++sequence) {
    for (int32_t p = 0, token = 0; p < kSequence; ++p)
      text += static_cast<char>(token = Token(sequence, p, token));
  }
  WriteTextFile(folder + "/text.txt", text);
  Config config = PlacementConfig(1, 1, kMicrobatches, /*micro_batch=*/4, 0);
  config.mutable_train()->set_init_from(folder);
  config.mutable_train()->set_steps(8);
  config.mutable_train()->set_lr(1e-9);
  config.mutable_train()->set_min_lr(1e-9);
  config.mutable_data()->add_train(folder + "/text.txt");
  config.mutable_data()->set_order(DataConfig::SEQUENTIAL);
  config.mutable_parallel()->set_replace_every(4);
  config.mutable_traffic()->set_record(TrafficConfig::FULL);
  std::string settings;
  CHECK(google::protobuf::TextFormat::PrintToString(config, &settings));
  WriteTextFile(folder + "/model.txtpb", settings);
}

}  // namespace unipool
