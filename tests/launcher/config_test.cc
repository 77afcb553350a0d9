// Reading, overriding and printing settings; every wrong input is compared with the whole message a user
// sees.
#include "launcher/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> ProblemsOf(const std::function<void()>& work) {
  try {
    work();
  } catch (const UserError& error) {
    return error.problems();
  }
  return {};
}

std::vector<std::string> TextProblems(const std::string& text,
                                      const std::vector<std::string>& overrides = {}) {
  return ProblemsOf([&] { ParseConfig(text, "a.txtpb", overrides); });
}

TEST(Config, ReadsFileAndAppliesOverridesInOrder) {
  const Config config =
      ParseConfig("model { layers: 6 }\n# comment\nmoe { router: SIGMOID } data { train: \"x\" }", "a",
                  {"model.layers=3", "train.lr=1e-3", "model.layers=5", "moe.router=softmax",
                   "run_dir=runs/a=b", "train.init_from=\"some dir\"", "train.recompute_experts=true"});
  EXPECT_EQ(config.model().layers(), 5);
  EXPECT_EQ(config.train().lr(), 1e-3);
  EXPECT_EQ(config.moe().router(), RouterType::SOFTMAX);
  EXPECT_EQ(config.run_dir(), "runs/a=b");
  EXPECT_EQ(config.train().init_from(), "some dir");
  EXPECT_TRUE(config.train().recompute_experts());
  EXPECT_THAT(config.data().train(), ElementsAre("x"));
}

TEST(Config, OverrideReplacesRepeatedField) {
  const std::string text = "data { train: \"a\" train: \"b\" }";
  auto train = [&](const std::string& value) {
    return ParseConfig(text, "a", {"data.train=" + value}).data().train();
  };
  EXPECT_THAT(train("0.7 books, 0.3 code"), ElementsAre("0.7 books", "0.3 code"));
  EXPECT_THAT(train("[\"c d\", 'e']"), ElementsAre("c d", "e"));
  EXPECT_THAT(train("one"), ElementsAre("one"));
  EXPECT_THAT(train(""), ElementsAre());
}

TEST(Config, NamesEveryProblemOfAFileAtOnce) {
  const std::string text =
      "model {\n  layres: 6\n  hidden: wide\n  lr: 3\n  heads: 8 heads: 4\n}\n"
      "moe { router: norm balance: POOL }\ntrain: 3\nrun_dir { }\nfoo { bar: 1 }\ntrain { steps: 5_000 lr: "
      "1e-3 seed: -1 }\n"
      "data { split: [\"a\"] train: [1, \"b\"] }\n";
  EXPECT_THAT(
      TextProblems(text, {"model.hiden=5", "steps=3", "train", "train=3", "moe.router=nrom", "train.lr.x=1",
                          "moe.top_k=1.5"}),
      ElementsAre(
          "a.txtpb:2: model.layres: no such field; did you mean model.layers?",
          "a.txtpb:3: model.hidden: expected a whole number (32 bits), found \"wide\"",
          "a.txtpb:4: model.lr: no such field; did you mean train.lr?",
          "a.txtpb:5: model.heads: given twice; keep one of the two",
          "a.txtpb:7: moe.router: expected one of NORM, SOFTMAX, SIGMOID, found \"norm\"; did you mean NORM?",
          "a.txtpb:7: moe.balance: expected one of POOL_LOSS, LAYER_LOSS, BIAS, NONE, found \"POOL\"",
          "a.txtpb:8: train: expected a block { ... }, found 3",
          "a.txtpb:9: run_dir: expected a text in quotes, found a block",
          "a.txtpb:10: foo: no such field; fields here: run_dir, device, model, moe, train, data, parallel, "
          "metrics, "
          "traffic",
          "a.txtpb:11: train: given twice; keep one of the two",
          "a.txtpb:11: train.steps: expected a whole number, found \"5_000\"",
          "a.txtpb:11: train.seed: expected a whole number, not negative, found \"-1\"",
          "a.txtpb:12: data.split: expected a text in quotes, found a list",
          "a.txtpb:12: data.train: expected a text in quotes, found \"1\"",
          "override model.hiden=5: no such field; did you mean model.hidden?",
          "override steps=3: no such field; did you mean train.steps?",
          "override train: expected field.path=value, for example train.steps=100",
          "override train=3: is a block; name one of its fields: steps, seed, global_batch, micro_batch, lr, "
          "min_lr, "
          "warmup_fraction, beta1, beta2, adam_eps, weight_decay, clip, init_from, eval_every, eval_batches, "
          "eval_tasks, eval_task_items, "
          "save_every, "
          "keep_checkpoints, recompute_experts, recompute_attention, precision, weight_grad_slots, "
          "head_tokens, save_minutes, save_at_end, stop_at, resume_step, lr_schedule, decay_steps",
          "override moe.router=nrom: expected one of NORM, SOFTMAX, SIGMOID, found \"NROM\"; did you mean "
          "NORM?",
          "override train.lr.x=1: train.lr has no fields of its own",
          "override moe.top_k=1.5: expected a whole number (32 bits), found \"1.5\""));
}

TEST(Config, AGpuIsCalledCuda) {
  EXPECT_THAT(
      TextProblems("", {"device=gpu"}),
      ElementsAre("override device=gpu: expected one of CPU, CUDA, found \"GPU\"; did you mean CUDA?"));
}

TEST(Config, ExplainsBrokenSyntax) {
  EXPECT_THAT(TextProblems("model { layers: 6\n"),
              ElementsAre("a.txtpb:2: the block of model is not closed; a \"}\" is missing"));
  EXPECT_THAT(TextProblems("model { layers 6 }"),
              ElementsAre(HasSubstr("model.layers: expected \":\" and a value, found \"6\"")));
  EXPECT_THAT(TextProblems("}"), ElementsAre("a.txtpb:1: expected the name of a field, found \"}\""));
  EXPECT_THAT(TextProblems("run_dir: \"abc\n"), ElementsAre(HasSubstr("a.txtpb:1")));
}

// Whatever bytes a file holds: either settings or a UserError that names the file.
TEST(Config, NoBytesCrashTheReader) {
  std::mt19937 random(7);
  const std::string good =
      "model { layers: 6 hidden: 12 } moe < router: NORM >\ndata { train: ['a', \"b\"] } train { lr: -1e-3 }";
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = good;
    for (int edits = 1 + random() % 3; edits > 0; --edits) {
      static const std::string alphabet(
          "{}[]<>:;,\"'#-\n\0\xff"
          "a1.",
          19);
      const size_t at = random() % text.size();
      if (random() % 2)
        text[at] = alphabet[random() % alphabet.size()];
      else
        text.erase(at, 1 + random() % 4);
    }
    const std::vector<std::string> problems = TextProblems(text);
    refused += !problems.empty();
    for (const std::string& problem : problems) EXPECT_THAT(problem, testing::StartsWith("a.txtpb:")) << text;
  }
  EXPECT_GT(refused, 1000);
}

TEST(Config, MissingFileSuggestsANeighbour) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "config_neighbours";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "small.txtpb") << "";
  const std::string wanted = (folder / "smal.txtpb").string();
  EXPECT_THAT(ProblemsOf([&] { LoadConfig(wanted, {}); }),
              ElementsAre(wanted + ": cannot be read (No such file or directory); did you mean " +
                          (folder / "small.txtpb").string() + "?"));
  EXPECT_THAT(ProblemsOf([&] { LoadConfig(folder.string(), {}); }), ElementsAre(HasSubstr("is a folder")));
  std::ofstream(folder / "config.txtpb") << "";
  EXPECT_THAT(ProblemsOf([&] { LoadConfig(folder.string(), {}); }),
              ElementsAre(testing::EndsWith("; that of this run is " + (folder / "config.txtpb").string())));
  EXPECT_THAT(ProblemsOf([&] { LoadConfig("/dev/null", {}); }),
              ElementsAre(HasSubstr("/dev/null: holds nothing and is no regular file")));
  EXPECT_EQ(LoadConfig((folder / "small.txtpb").string(), {}).model().layers(), 4);  // all defaults
}

TEST(Config, PrintedSettingsParseToTheSame) {
  const Config config = ParseConfig(
      "model { layers: 6 norm_eps: 0.1234567890123 }", "a",
      {"data.train=a b,c", "train.seed=18446744073709551615", "run_dir=a\"b\\c", "train.lr=3e-4"});
  const std::string text = ResolvedConfigText(config);
  const Config again = ParseConfig(text, "printed");
  EXPECT_EQ(ResolvedConfigText(again), text);
  EXPECT_EQ(again.model().norm_eps(), 0.1234567890123);
  EXPECT_EQ(again.train().seed(), 18446744073709551615u);
  EXPECT_EQ(again.run_dir(), "a\"b\\c");
  EXPECT_THAT(again.data().train(), ElementsAre("a b", "c"));
  EXPECT_THAT(text, HasSubstr("  balance_scope: STEP\n"));  // a default that nobody wrote
  EXPECT_THAT(text, HasSubstr("  valid: []\n"));
  EXPECT_THAT(text, HasSubstr("  lr: 0.0003\n"));
}

}  // namespace
}  // namespace unipool
