// Help comes from the program's own lists: commands, flags, config.proto with its comments.
#include "launcher/help.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "launcher/config_text.h"
#include "launcher/flag_list.h"
#include "launcher/setting_list.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

TEST(Help, EveryFlagIsShownByItsCommandsAndNoOther) {
  int count = 0;
  for (const FlagInfo& flag : UsableFlags()) {
    if (!IsOurs(flag) || flag.name.rfind("test_", 0) == 0) continue;
    ++count;
    const std::vector<std::string> users = UsersOf(flag);
    EXPECT_FALSE(users.empty()) << flag.name << " belongs to no command";
    for (const CommandInfo& command : Commands()) {
      const bool is_user = std::find(users.begin(), users.end(), command.name) != users.end();
      const std::string text = "\n" + HelpText(command.name);
      const bool is_shown = text.find("\n  --" + flag.name + "=") != std::string::npos ||
                            text.find("\n  --" + flag.name + " ") != std::string::npos;
      EXPECT_EQ(is_shown, is_user) << command.name << " --" << flag.name;
    }
  }
  EXPECT_GT(count, 10);
}

TEST(Help, TrainShowsEverySettingWithItsMeaningAndDefault) {
  const std::string text = HelpText("train");
  std::vector<std::string> paths;
  for (const SettingInfo& setting : SettingList()) {
    paths.push_back(setting.path);
    EXPECT_THAT(text, HasSubstr("\n  " + setting.path + "=" + setting.preset)) << setting.path;
    const bool explains_itself = !setting.meaning.empty() || !setting.values.empty();
    EXPECT_TRUE(explains_itself) << setting.path << " has no comment";
  }
  EXPECT_EQ(paths, LeafPaths(*Config::descriptor()));
  EXPECT_THAT(text, HasSubstr("  train.steps=1000              optimizer steps of the whole run\n"));
  EXPECT_THAT(text, HasSubstr("      SOFTMAX                   softmax over the experts a layer sees\n"));
  EXPECT_THAT(HelpText("eval"), Not(HasSubstr("train.steps")));
}

TEST(Help, TheWordsThatAFlagTakesAreThoseItsMeaningNames) {
  int count = 0;
  for (const FlagInfo& flag : UsableFlags()) {
    if (!IsOurs(flag) || flag.name == "metric") continue;  // its meaning names the list
    for (const std::string& value : ValuesOf(flag)) {
      EXPECT_THAT(flag.description, HasSubstr(value)) << flag.name;
      ++count;
    }
    const std::vector<std::string> values = ValuesOf(flag);
    if (flag.default_value.empty() || values.empty()) continue;
    EXPECT_THAT(values, Contains(flag.default_value)) << flag.name;
  }
  EXPECT_GE(count, 15);
}

TEST(Help, NamesTheFolderOfThePresets) {
  EXPECT_THAT(HelpText(""), HasSubstr("\nPresets (CONFIG.txtpb): "));
}

TEST(Help, LinesFitATerminal) {
  std::istringstream lines(HelpText("") + HelpText("train") + HelpText("generate") + HelpText("tokenize"));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
}

TEST(Help, OneSettingOrABlock) {
  EXPECT_THAT(HelpText("train.clip"), testing::StartsWith("  train.clip=1"));
  EXPECT_THAT(HelpText("train.clip"), Not(HasSubstr("train.steps")));
  EXPECT_THAT(HelpText("moe"), HasSubstr("  moe.experts=32"));
  EXPECT_THAT(HelpText("moe"), Not(HasSubstr("model.layers")));
}

TEST(Help, AnUnknownTopicIsASentence) {
  const auto problem_of = [](const std::string& topic) {
    try {
      return HelpText(topic);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
  };
  EXPECT_THAT(problem_of("trian"),
              HasSubstr("help trian: is no command and no setting; did you mean train?"));
  EXPECT_THAT(problem_of("train.lrr"), HasSubstr("did you mean train.lr?"));
  EXPECT_THAT(problem_of("lr"), HasSubstr("did you mean train.lr?"));
  EXPECT_THAT(problem_of("what is this"), HasSubstr("unipool help lists the commands"));
}

TEST(Help, WordsForCompletion) {
  EXPECT_THAT(CompletionWords(""), testing::IsSupersetOf({"train", "verify", "help", "--version"}));
  const std::vector<std::string> words = CompletionWords("train");
  EXPECT_THAT(words, testing::IsSupersetOf({"--anew", "train.steps=", "moe.router=NORM", "device=CUDA"}));
  EXPECT_THAT(words, Not(Contains("--prompt=")));
  EXPECT_THAT(CompletionWords("tokenize"), Not(Contains("train.steps=")));
  EXPECT_THAT(CompletionWords("plot"), testing::IsSupersetOf({"--metric=", "--metric=grad_norm",
                                                              "--metric=valid_loss", "--x=tokens"}));
  EXPECT_THAT(CompletionWords("plot"), Not(Contains("--metric=step")));
}

}  // namespace
}  // namespace unipool
