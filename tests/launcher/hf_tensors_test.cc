// Names of exported tensors, and where each comes from. That their numbers mean the same is the matter of
// tests/huggingface_test.py.
#include "launcher/interop/hf_tensors.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "launcher/config.h"
#include "models/training_engine.h"
#include "runtime/world.h"

namespace unipool {
namespace {

Config Model(const std::string& moe) {
  const bool has_experts = moe.find("experts:") != std::string::npos;
  return ParseConfig(
      "model { layers: 3 hidden: 16 heads: 4 kv_heads: 2 seq_length: 8 vocab: 50 vocab_multiple: 64 }"
      "train { global_batch: 1 micro_batch: 1 } moe { width: 12 " +
          moe + (has_experts ? " }" : " experts: 6 }"),
      "settings");
}

std::map<std::string, HfTensor> ByName(const std::vector<HfTensor>& tensors) {
  std::map<std::string, HfTensor> names;
  for (const HfTensor& tensor : tensors)
    EXPECT_TRUE(names.emplace(tensor.name, tensor).second) << tensor.name << " twice";
  return names;
}

// Each weight of the model is exported, once, whatever the architecture.
TEST(HfTensors, NoWeightIsLeftOut) {
  for (const char* moe : {"", "sharing: GROUPED groups: 3 balance: BIAS", "balance: BIAS bias_scope: LAYER",
                          "sharing: PRIVATE router: SOFTMAX", "sharing: DENSE experts: 3"}) {
    const Config config = Model(moe);
    RunWorld({.num_threads = 1}, [&](World& world) {
      TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
      std::multiset<std::string> ours, exported;
      for (const DiskTensor& weight : engine.state().Weights()) ours.insert(weight.name);
      for (const HfTensor& tensor :
           HfTensorsOf(ChooseHfArchitecture(config, /*is_attenuated=*/false).architecture,
                       engine.parts().spec, engine.parts().use.visibility, BiasNameOf(config))) {
        if (!tensor.source.empty()) exported.insert(tensor.source);
      }
      EXPECT_EQ(exported, ours) << moe;
    });
  }
}

TEST(HfTensors, PaddedRowsOfTheVocabularyAreCut) {
  const ModelSpec spec = MakeModelSpec(Model(""));
  const auto tensors = ByName(HfTensorsOf(HfArchitecture::kUniPool, spec, Visibility(spec), /*bias=*/""));
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    EXPECT_EQ(tensors.at(name).rows.begin, 0);
    EXPECT_EQ(tensors.at(name).rows.end, 50);
  }
}

TEST(HfTensors, QwenHasTheExpertsOfEachLayer) {
  const ModelSpec spec = MakeModelSpec(Model("sharing: PRIVATE router: SOFTMAX"));
  const auto tensors = ByName(HfTensorsOf(HfArchitecture::kQwen2Moe, spec, Visibility(spec), /*bias=*/""));
  const HfTensor& gate = tensors.at("model.layers.1.mlp.gate.weight");
  EXPECT_EQ(gate.source, "model.layers.1.mlp.router.weight");
  EXPECT_EQ(gate.rows.begin, 2);
  EXPECT_EQ(gate.rows.end, 4);
  EXPECT_EQ(tensors.at("model.layers.2.mlp.experts.1.up_proj.weight").source,
            "model.pool.experts.5.up_proj.weight");
  EXPECT_FALSE(tensors.contains("model.layers.2.mlp.experts.2.up_proj.weight"));
  const HfTensor& bias = tensors.at("model.layers.0.self_attn.k_proj.bias");
  EXPECT_EQ(bias.shape, (std::vector<int64_t>{8}));
  EXPECT_EQ(bias.values, std::vector<float>(8, 0.f));
  EXPECT_EQ(tensors.at("model.layers.0.mlp.shared_expert.down_proj.weight").shape,
            (std::vector<int64_t>{16, kSharedExpertWidth}));
}

TEST(HfTensors, VisibleExpertsGoWithEachLayerOfAPool) {
  const ModelSpec spec = MakeModelSpec(Model("sharing: GROUPED groups: 3"));
  const auto tensors =
      ByName(HfTensorsOf(HfArchitecture::kUniPool, spec, Visibility(spec), /*bias=*/"layer_bias"));
  EXPECT_EQ(tensors.at("model.layers.1.mlp.router.visible").values, (std::vector<float>{0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(tensors.at("model.layers.1.mlp.router.bias").source, "model.layers.1.mlp.router.layer_bias");
  EXPECT_FALSE(tensors.contains("model.layers.1.mlp.router.attenuation"));
  EXPECT_EQ(OwnExperts(spec, 2).begin, 4);
  EXPECT_EQ(OwnExperts(spec, 2).end, 6);
}

TEST(HfTensors, FactorsGoWithLayersThatHaveGivenUpExperts) {
  const ModelSpec spec = MakeModelSpec(Model(""));
  Visibility visibility(spec);
  const std::vector<float> factors = {1, 0, 0.25f, 1, 1, 0};
  visibility.Set(1, factors);
  const auto tensors = ByName(HfTensorsOf(HfArchitecture::kUniPool, spec, visibility, /*bias=*/""));
  EXPECT_EQ(tensors.at("model.layers.1.mlp.router.attenuation").values, factors);
  EXPECT_EQ(tensors.at("model.layers.0.mlp.router.attenuation").values, std::vector<float>(6, 1.f));
}

}  // namespace
}  // namespace unipool
