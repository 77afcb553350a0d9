// Settings that do not fit each other, with the whole sentence each of them gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Check(const std::vector<std::string>& overrides, int world_size = 1) {
  try {
    ValidateConfig(ParseConfig("", "empty", overrides), world_size);
  } catch (const UserError& error) {
    return error.problems();
  }
  return {};
}

TEST(ValidateConfig, AcceptsDefaultsAndPresets) {
  EXPECT_THAT(Check({}), ElementsAre());
  int presets = 0;
  for (const auto& entry : std::filesystem::directory_iterator(UNIPOOL_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".txtpb") continue;
    const Config config = LoadConfig(entry.path().string(), {});
    EXPECT_NO_THROW(ValidateConfig(config, config.parallel().ranks())) << entry.path();
    ++presets;
  }
  EXPECT_GE(presets, 16);
}

TEST(ValidateConfig, ModelSizes) {
  EXPECT_THAT(
      Check({"model.hidden=100"}),
      ElementsAre(
          "model.hidden: is 100, which is not divisible by model.heads (8); model.heads may be 1, 2, 4, 5, "
          "10, 20, 25, 50, 100, or model.hidden a multiple of 8"));
  EXPECT_THAT(
      Check({"model.kv_heads=3"}),
      ElementsAre(
          "model.heads: is 8, which is not divisible by model.kv_heads (3); model.kv_heads may be 1, 2, 4, "
          "8, or model.heads a multiple of 3"));
  EXPECT_THAT(Check({"model.hidden=72", "model.heads=8"}), ElementsAre(HasSubstr("have 9 columns each")));
  EXPECT_THAT(
      Check({"model.layers=0", "model.heads=-1", "model.vocab=0", "model.norm_eps=nan", "model.init_std=inf"})
          .size(),
      6u);
}

TEST(ValidateConfig, NumbersThatFp32CannotHold) {
  for (const std::string setting :
       {"train.lr=1e39", "train.adam_eps=1e-300", "model.init_std=1e300", "moe.router_constant=1e300",
        "train.weight_decay=1e-40", "moe.balance_coeff=1e60", "train.clip=1e39", "model.norm_eps=1e-50",
        "model.rope_base=1e50", "train.beta2=0.999999999999"}) {
    const std::string field = setting.substr(0, setting.find('='));
    EXPECT_THAT(Check({setting, "train.min_lr=0"}), ElementsAre(testing::StartsWith(field + ": is ")))
        << setting;
  }
  EXPECT_THAT(Check({"train.lr=3e38", "train.min_lr=0", "model.init_std=0", "train.clip=0"}), ElementsAre());
}

TEST(ValidateConfig, ExpertsSeenByALayer) {
  EXPECT_THAT(Check({"moe.top_k=33"}),
              ElementsAre("moe.top_k: is 33, but each layer sees 32 of the 32 experts (moe.sharing "
                          "GLOBAL); must be at most 32"));
  EXPECT_THAT(Check({"moe.sharing=PRIVATE", "moe.top_k=9"}),
              ElementsAre(HasSubstr("sees 8 of the 32 experts")));
  EXPECT_THAT(Check({"moe.sharing=PRIVATE", "moe.experts=30"}),
              ElementsAre(HasSubstr("must be a multiple of 4 (8 per layer: 32)")));
  EXPECT_THAT(Check({"moe.sharing=GROUPED", "moe.groups=3"}),
              ElementsAre(HasSubstr("model.layers: is 4, which is not divisible by moe.groups (3)"),
                          HasSubstr("moe.experts: is 32, which is not divisible by moe.groups (3)")));
  EXPECT_THAT(Check({"moe.sharing=GROUPED", "moe.groups=4", "moe.top_k=8"}), ElementsAre());
  EXPECT_THAT(Check({"moe.sharing=GROUPED", "moe.groups=4", "moe.top_k=9"}),
              ElementsAre(HasSubstr("sees 8 of the 32")));
}

TEST(ValidateConfig, LayersPerStage) {
  const auto check = [](const std::string& layers) {
    return Check({"model.layers=7", "parallel.stages=3", "parallel.layers_per_stage=" + layers}, 3);
  };
  EXPECT_THAT(check("3,2,2"), ElementsAre());
  EXPECT_THAT(check("[1, 5, 1]"), ElementsAre());
  EXPECT_THAT(check(""), ElementsAre());
  EXPECT_THAT(check("4,3"),
              ElementsAre("parallel.layers_per_stage: is 4, 3: 2 numbers with the sum 7; must be 3 numbers "
                          "(parallel.stages) of at least 1 with the sum 7 (model.layers), or empty to have "
                          "them chosen"));
  EXPECT_THAT(check("3,2,1"), ElementsAre(HasSubstr("3 numbers with the sum 6; must be")));
  EXPECT_THAT(check("7,-1,1"), ElementsAre(HasSubstr("is 7, -1, 1: 3 numbers with the sum 7; must be")));
  EXPECT_THAT(check("3,two,2"), ElementsAre(HasSubstr("found \"two\"")));
}

TEST(ValidateConfig, DeviceSettings) {
  EXPECT_THAT(Check({"device=CUDA", "model.hidden=512", "model.heads=8", "moe.width=256"}), ElementsAre());
  EXPECT_THAT(Check({"train.precision=BF16", "moe.width=250"}), ElementsAre()) << "the CPU takes any size";
  EXPECT_THAT(Check({"parallel.transport=NCCL"}),
              ElementsAre("parallel.transport: is NCCL, which says how memory of GPUs travels; with device: "
                          "CPU leave it AUTO"));
  EXPECT_THAT(Check({"device=CUDA", "model.hidden=1024", "model.heads=4", "model.kv_heads=4"}),
              ElementsAre("model.heads: 4 heads of model.hidden 1024 have 256 columns each; device: CUDA "
                          "takes at most 128: at least 8 heads"));
  EXPECT_THAT(Check({"device=CUDA", "moe.experts=769", "moe.width=250"}),
              ElementsAre("moe.experts: is 769; device: CUDA takes at most 768",
                          "moe.width: is 250; products in BF16 need a multiple of 8, for example 256; or set "
                          "train.precision: FP32"));
  EXPECT_THAT(Check({"device=CUDA", "moe.width=250", "train.precision=FP32"}), ElementsAre());
  EXPECT_THAT(
      Check({"device=CUDA", "parallel.emulate=gigabit"}),
      Contains("parallel.emulate: a cluster is emulated with device: CPU only; clear one of the two"));
}

TEST(ValidateConfig, SenselessCombinations) {
  EXPECT_THAT(Check({"moe.sharing=DENSE", "moe.balance=BIAS", "moe.top_k=2"}),
              ElementsAre(HasSubstr("moe.experts: is 32; with sharing DENSE each layer has one expert, so it "
                                    "must equal model.layers (4)"),
                          HasSubstr("moe.top_k: is 2, but each layer sees 1"),
                          HasSubstr("moe.balance: is BIAS, but with sharing DENSE")));
  EXPECT_THAT(Check({"moe.sharing=DENSE", "moe.balance=NONE", "moe.experts=4"}), ElementsAre());
  EXPECT_THAT(Check({"moe.groups=2"}),
              ElementsAre(HasSubstr("used only with moe.sharing GROUPED (now GLOBAL)")));
  EXPECT_THAT(Check({"moe.band=4"}),
              ElementsAre(HasSubstr("used only with moe.sharing SLIDING (now GLOBAL)")));
  EXPECT_THAT(Check({"moe.sharing=SLIDING"}), ElementsAre(HasSubstr("moe.band: is 0; with sharing SLIDING")));
  EXPECT_THAT(Check({"moe.sharing=SLIDING", "moe.band=33", "moe.experts=32"}),
              ElementsAre(HasSubstr("must be from 8 (the 4 layers together then see all) to 32")));
  EXPECT_THAT(Check({"moe.sharing=SLIDING", "moe.band=9", "moe.experts=32"}), ElementsAre());
  EXPECT_THAT(Check({"moe.router=SOFTMAX", "moe.router_constant=2"}),
              ElementsAre(HasSubstr("the router has no constant (moe.router is SOFTMAX)")));
  EXPECT_THAT(Check({"moe.balance=NONE", "moe.balance_scope=RANK"}),
              ElementsAre(HasSubstr("only POOL_LOSS has a scope")));
  EXPECT_THAT(Check({"moe.balance=NONE", "moe.balance_counts=POSITIVE", "moe.balance_hinge=true"}),
              ElementsAre(HasSubstr("moe.balance_counts: is POSITIVE, but nothing counts"),
                          HasSubstr("moe.balance_hinge: is set, but only POOL_LOSS and LAYER_LOSS")));
  EXPECT_THAT(Check({"moe.balance=BIAS", "moe.balance_hinge=true"}),
              ElementsAre(HasSubstr("moe.balance_hinge: is set, but only POOL_LOSS and LAYER_LOSS")));
  EXPECT_THAT(Check({"moe.bias_scope=LAYER"}),
              ElementsAre(HasSubstr("only BIAS has biases (moe.balance is POOL_LOSS)")));
  EXPECT_THAT(Check({"moe.balance=BIAS", "moe.bias_scope=LAYER", "moe.balance_counts=POSITIVE"}),
              ElementsAre());
  EXPECT_THAT(Check({"moe.balance=LAYER_LOSS", "moe.balance_hinge=true"}), ElementsAre());
  EXPECT_THAT(Check({"parallel.experts=PER_STAGE", "parallel.stages=2"}, 2), ElementsAre());
}

TEST(ValidateConfig, TrainingNumbers) {
  EXPECT_THAT(Check({"train.steps=0", "train.lr=0", "train.min_lr=-1", "train.warmup_fraction=1.5",
                     "train.beta1=1", "train.beta2=nan", "train.clip=-1", "train.eval_every=-1",
                     "train.keep_checkpoints=-2", "data.split=1,2"})
                  .size(),
              10u);
  EXPECT_THAT(Check({"train.lr=1e-5"}),
              ElementsAre(HasSubstr("train.min_lr: is 5e-05, above train.lr (1e-05)")));
  EXPECT_THAT(Check({"train.lr_schedule=WSD", "train.decay_steps=9", "train.steps=8"}),
              ElementsAre(HasSubstr("train.decay_steps: is 9, more than train.steps (8)")));
  EXPECT_THAT(Check({"train.decay_steps=9", "train.steps=8"}), ElementsAre());
  EXPECT_THAT(Check({"data.split=0,0,0"}), ElementsAre(HasSubstr("data.split: is \"0,0,0\"")));
  EXPECT_THAT(Check({"data.split=1,2,x"}), ElementsAre(HasSubstr("data.split: is \"1,2,x\"")));
  EXPECT_THAT(Check({"data.split=0.9, 0.1, 0"}), ElementsAre());
  EXPECT_THAT(Check({"run_dir="}), ElementsAre(HasSubstr("run_dir: is empty")));
}

TEST(ValidateConfig, RanksAndBatches) {
  EXPECT_THAT(Check({"train.global_batch=30", "train.micro_batch=2"}, 4),
              ElementsAre("train.global_batch: is 30 sequences, which is not a multiple of train.micro_batch "
                          "(2) x data ranks "
                          "(4) = 8; these would fit: train.global_batch 24 or 32"));
  EXPECT_THAT(Check({"train.global_batch=12"}, 3),
              ElementsAre("train.global_batch: is 12 sequences, which is not a multiple of train.micro_batch "
                          "(8) x data ranks "
                          "(3) = 24; these would fit: train.global_batch 24, or train.micro_batch 1, 2, 4"));
  EXPECT_THAT(Check({"parallel.stages=2"}, 2), ElementsAre());  // one data rank
  EXPECT_THAT(Check({"parallel.stages=2", "parallel.pool_replicas=2"}, 6),
              ElementsAre("parallel.stages x parallel.pool_replicas: 2 x 2 = 4 does not divide the 6 ranks; "
                          "the product may be "
                          "1, 2, 3, 6, or the ranks a multiple of 4"));
  EXPECT_THAT(Check({"parallel.stages=5", "train.micro_batch=1"}, 5),
              ElementsAre(HasSubstr("more than model.layers (4)")));
  EXPECT_THAT(Check({"parallel.replace_every=-1"}),
              ElementsAre("parallel.replace_every: is -1; must be at least 0"));
  EXPECT_THAT(Check({"parallel.ranks=3", "train.global_batch=24"}, 3), ElementsAre());
}

}  // namespace
}  // namespace unipool
