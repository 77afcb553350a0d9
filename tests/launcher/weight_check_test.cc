// Whether weights fit is tested in weight_folder_test.cc and checkpoint_test.cc; here: how settings differ.
#include "launcher/checkpoints/weight_check.h"

#include <gtest/gtest.h>

#include "launcher/config.h"

namespace unipool {
namespace {

using Differences = std::vector<SettingDifference>;

std::string Text(const Differences& differences) {
  std::string text;
  for (const SettingDifference& difference : differences)
    text += difference.path + ": " + difference.one + " -> " + difference.other + "\n";
  return text;
}

TEST(WeightCheck, SettingsThatDiffer) {
  const auto resolved = [](const std::vector<std::string>& overrides) {
    return ResolvedConfigText(ParseConfig("", "empty", overrides));
  };
  EXPECT_EQ(Text(ListDifferences(resolved({}), resolved({}))), "");
  EXPECT_EQ(Text(ListDifferences(resolved({"train.lr=0.1", "run_dir=x"}), resolved({"train.lr=0.2"}))),
            "run_dir: \"x\" -> \"runs/default\"\ntrain.lr: 0.1 -> 0.2\n");
  EXPECT_EQ(SettingDifferences(resolved({"train.lr=0.1"}), resolved({"train.lr=0.2"}), "in a", "in b"),
            "train.lr is 0.1 in a and 0.2 in b");
}

TEST(WeightCheck, ListsAreComparedWhole) {
  const std::string lines = "data {\n  train: \"a\"\n  train: \"b\"\n}\n";
  EXPECT_EQ(Text(ListDifferences(lines, "data {\n  train: [\"a\", \"b\"]\n}\n")), "");
  EXPECT_EQ(Text(ListDifferences(lines, "data {\n  train: [\"c\", \"b\"]\n}\n")),
            "data.train: [\"a\", \"b\"] -> [\"c\", \"b\"]\n");
  EXPECT_EQ(Text(ListDifferences("data {\n  train: \"a\"\n}\n", "data {\n  train: [\"a\"]\n}\n")), "");
}

TEST(WeightCheck, BlocksHoldBlocks) {
  const std::string one = "moe {\n  lock {\n    steps: 3\n  }\n  experts: 8\n}\nsteps: 1\n";
  const std::string other = "moe {\n  lock {\n    steps: 4\n  }\n  experts: 9\n}\nsteps: 2\n";
  EXPECT_EQ(Text(ListDifferences(one, other)),
            "moe.experts: 8 -> 9\nmoe.lock.steps: 3 -> 4\nsteps: 1 -> 2\n");
}

TEST(WeightCheck, SettingsOfOneTextAloneAreNoDifference) {
  EXPECT_EQ(Text(ListDifferences("a: 1\n# b: 2\n}\n", "a: 1\nb: 3\n")), "");
}

}  // namespace
}  // namespace unipool
