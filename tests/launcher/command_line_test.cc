// The command line: sorting of arguments, and every mistake as one sentence and exit code 2, under mpirun
// too.
#include "launcher/command_line.h"

#include <gflags/gflags.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/errors.h"

DEFINE_double(test_warmth, 1, "a flag of this test");

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> ProblemsOf(const std::vector<std::string>& arguments) {
  gflags::FlagSaver saver;
  try {
    ParseCommandLine(arguments);
  } catch (const UserError& error) {
    return error.problems();
  }
  return {};
}

TEST(CommandLine, SortsArguments) {
  gflags::FlagSaver saver;
  const CommandLine line = ParseCommandLine({"eval", "--json", "a.txtpb", "train.steps=5", "--test_warmth",
                                             "0.5", "run_dir=--x", "--checkpoint=c=d"});
  EXPECT_EQ(line.command, "eval");
  EXPECT_EQ(line.config_path, "a.txtpb");
  EXPECT_THAT(line.overrides, ElementsAre("train.steps=5", "run_dir=--x"));
  EXPECT_TRUE(line.json);
  EXPECT_FALSE(line.print_config);
  EXPECT_EQ(line.checkpoint, "c=d");
  EXPECT_EQ(FLAGS_test_warmth, 0.5);
  EXPECT_FALSE(ParseCommandLine({"info", "a", "--nojson"}).json);
  EXPECT_THAT(ParseCommandLine({"tokenize", "-", "--threads=1", "a=b.jsonl"}).inputs,
              ElementsAre("-", "a=b.jsonl"));
  for (const char* help : {"help", "--help", "-h"}) EXPECT_EQ(ParseCommandLine({help}).command, "help");
  EXPECT_EQ(ParseCommandLine({}).command, "help");
  for (const auto& arguments : {std::vector<std::string>{"train", "--help"}, {"help", "train"}}) {
    EXPECT_EQ(ParseCommandLine(arguments).command, "help");
    EXPECT_THAT(ParseCommandLine(arguments).topics, ElementsAre("train"));
  }
  for (const char* version : {"version", "--version", "-V", "-v"})
    EXPECT_EQ(ParseCommandLine({version}).command, "version");
}

TEST(CommandLine, NamesEveryMistakeAtOnce) {
  EXPECT_THAT(
      ProblemsOf({"trian", "--jsom", "--test_warmth=hot", "--checkpoint"}),
      ElementsAre("--jsom: unknown flag; did you mean --json?",
                  "--test_warmth: expected a number, found \"hot\"", "--checkpoint: its value is missing",
                  "trian: unknown command; did you mean train?"));
  EXPECT_THAT(
      ProblemsOf({"--json"}),
      ElementsAre(
          "a command is missing; one of train, eval, generate, serve, export, import, verify, info, "
          "plan, calibrate, experts, shrink, grow, watch, plot, compare, report, submit, status, logs, stop, "
          "check_nodes, ledger, metrics, "
          "tokenize"));
  EXPECT_THAT(
      ProblemsOf({"fly"}),
      ElementsAre(
          "fly: unknown command; one of train, eval, generate, serve, export, import, verify, "
          "info, plan, calibrate, experts, shrink, grow, watch, plot, compare, report, submit, status, "
          "logs, stop, check_nodes, ledger, metrics, tokenize"));
  EXPECT_THAT(ProblemsOf({"train", "train.steps=1"}),
              ElementsAre(HasSubstr("train: the configuration file is missing")));
  EXPECT_THAT(ProblemsOf({"train", "a", "b"}),
              ElementsAre(HasSubstr("b: a second configuration file (after a)")));
  EXPECT_THAT(ProblemsOf({"metrics", "a"}), ElementsAre(HasSubstr("metrics takes flags only")));
  // The value of an unknown flag is no argument of its own.
  EXPECT_THAT(ProblemsOf({"generate", "a.txtpb", "--seed", "3"}),
              ElementsAre("--seed: unknown flag; did you mean --sample_seed, train.seed=VALUE?"));
  EXPECT_THAT(ProblemsOf({"--quickly", "train", "a.txtpb"}),
              ElementsAre("--quickly: unknown flag; see `unipool help`"));
  EXPECT_THAT(ProblemsOf({"train", "--quickly", "a.txtpb"}),
              ElementsAre("--quickly: unknown flag; see `unipool help`"));
  // gflags' own flag.
  EXPECT_THAT(ProblemsOf({"info", "a", "--flagfile=x"}), ElementsAre(HasSubstr("--flagfile: unknown flag")));
  EXPECT_THAT(ProblemsOf({"info", "a", "---json"}), ElementsAre(HasSubstr("---json: is no flag")));
  EXPECT_THAT(ProblemsOf({"info", "a", "--v=1"}), ElementsAre());  // glog's
}

TEST(CommandLine, AWordTooManySaysWhatMayBeMeant) {
  EXPECT_THAT(ProblemsOf({"train", "a.txtpb", "data.train", "book.txt"}),
              ElementsAre("data.train: a setting and its value are one word: data.train=book.txt"));
  EXPECT_THAT(ProblemsOf({"eval", "a.txtpb", "b.txt"}),
              ElementsAre(HasSubstr("did you mean data.valid=b.txt?")));
  EXPECT_THAT(ProblemsOf({"generate", "a.txtpb", "It was"}),
              ElementsAre(HasSubstr("did you mean --prompt \"It was\"?")));
}

TEST(CommandLine, WhatIsMeantAsAListLosesNothing) {
  EXPECT_THAT(ProblemsOf({"generate", "a.txtpb", "--prompt=a", "--prompt", "b"}),
              ElementsAre("--prompt: is given twice, as \"a\" and \"b\"; several prompts come from "
                          "--prompt_file FILE"));
  EXPECT_THAT(ProblemsOf({"tokenize", "--input=a", "--input=b"}),
              ElementsAre(HasSubstr("separate several files by commas")));
  EXPECT_THAT(ProblemsOf({"plot", "a", "--metric=loss", "--metric=lr"}),
              ElementsAre(HasSubstr("given twice")));
  EXPECT_THAT(ProblemsOf({"generate", "a.txtpb", "--prompt=a", "--prompt=a"}), ElementsAre()) << "the same";
  EXPECT_THAT(ProblemsOf({"generate", "a.txtpb", "--top_k=3", "--top_k=4"}), ElementsAre())
      << "the last of a script's flags and those behind them";
}

TEST(CommandLine, OneFolderAndOneTopic) {
  EXPECT_THAT(ProblemsOf({"watch", "a", "b"}), ElementsAre("b: watch takes one folder, and has a"));
  EXPECT_THAT(ProblemsOf({"help", "train", "eval"}),
              ElementsAre("help: takes one command or setting at a time, found train, eval"));
  EXPECT_EQ(ParseCommandLine({"help", "words", "eval"}).topics.size(), 2u) << "for completion";
}

TEST(CommandLine, FlagsThatTheCommandDoesNotUse) {
  EXPECT_THAT(
      ProblemsOf({"train", "a.txtpb", "--checkpoint=x", "--json", "--vocab=v"}),
      ElementsAre(
          "--checkpoint: is a flag of eval, generate, serve, export, experts, shrink, grow, not of train",
          "--json: is a flag of eval, generate, import, info, plan, experts, shrink, grow, compare, "
          "status, metrics, not of train",
          "--vocab: is a flag of eval, generate, serve, tokenize, not of train"));
  EXPECT_THAT(ProblemsOf({"metrics", "--print_config"}),
              ElementsAre(HasSubstr("--print_config: is a flag of")));
  EXPECT_THAT(ProblemsOf({"info", "a.txtpb", "--prompt=x"}),
              ElementsAre("--prompt: is a flag of generate, not of info"));
}

TEST(CommandLine, AFolderStandsForItsSettings) {
  gflags::FlagSaver saver;
  const std::string run = testing::TempDir() + "a=b run", checkpoint = run + "/checkpoints/step-3";
  std::filesystem::create_directories(checkpoint);
  for (const std::string& folder : {run, checkpoint})
    std::ofstream(folder + "/config.txtpb") << "train { steps: 7 }";
  CommandLine line = ParseCommandLine({"eval", "train.lr=1", run});
  EXPECT_EQ(line.config_path, run + "/config.txtpb");
  EXPECT_EQ(LoadConfig(line).run_dir(), run);
  EXPECT_EQ(LoadConfig(line).train().steps(), 7);
  line.overrides.emplace_back("run_dir=other");
  EXPECT_EQ(LoadConfig(line).run_dir(), "other");
  line = ParseCommandLine({"generate", checkpoint, "-", "--stop=a", "--stop", "b"});
  EXPECT_EQ(line.checkpoint, checkpoint);
  EXPECT_EQ(line.config_path, checkpoint + "/config.txtpb");
  EXPECT_THAT(line.inputs, ElementsAre("-"));
  EXPECT_THAT(line.stops, ElementsAre("a", "b"));
  line = ParseCommandLine({"eval", "--checkpoint", checkpoint});
  EXPECT_EQ(line.config_path, checkpoint + "/config.txtpb");
  gflags::SetCommandLineOption("checkpoint", "");
  EXPECT_EQ(ParseCommandLine({"train", run}).config_path, run);  // refused where it is read
  EXPECT_THAT(ProblemsOf({"info", testing::TempDir()}),
              ElementsAre(HasSubstr("holds runs; name one of them")));
}

TEST(CommandLine, AConfigPathMayContainAnything) {
  gflags::FlagSaver saver;
  EXPECT_EQ(ParseCommandLine({"info", "lr=1e-3/config.txtpb"}).config_path, "lr=1e-3/config.txtpb");
  const std::string file = testing::TempDir() + "a=b.settings";
  std::ofstream(file) << "";
  EXPECT_EQ(ParseCommandLine({"info", "train.steps=2", file}).config_path, file);
  const CommandLine line = ParseCommandLine({"info", "parallel.emulate=two.txtpb", "c.txtpb"});
  EXPECT_EQ(line.config_path, "c.txtpb");
  EXPECT_THAT(line.overrides, ElementsAre("parallel.emulate=two.txtpb"));
}

struct Outcome {
  int exit_code = -1;
  std::string output;  // stdout and stderr
};

Outcome RunShell(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  Outcome outcome;
  std::array<char, 4096> buffer;
  while (size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe))
    outcome.output.append(buffer.data(), count);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  return outcome;
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

const std::string kBinary = UNIPOOL_BINARY, kDemo = UNIPOOL_SOURCE_DIR "/configs/demo.txtpb";

TEST(Program, MistakesEndWithASentenceAndExitCode2) {
  for (const std::string arguments : {"--json", "trian", "train --jsom", "train /no/such.txtpb",
                                      "info "
                                      "DEMO"
                                      " model.heads=3"}) {
    std::string command = arguments;
    if (const size_t at = command.find("DEMO"); at != std::string::npos) command.replace(at, 4, kDemo);
    const Outcome outcome = RunShell(kBinary + " " + command);
    EXPECT_EQ(outcome.exit_code, 2) << arguments << outcome.output;
    EXPECT_THAT(outcome.output, testing::StartsWith("error: ")) << arguments;
    EXPECT_THAT(outcome.output, Not(HasSubstr("terminate")));
    EXPECT_THAT(outcome.output, Not(HasSubstr("@ 0x"))) << "a stack trace";
  }
}

TEST(Program, HelpAndPrintedSettingsEndWith0) {
  EXPECT_EQ(RunShell(kBinary + " --help").exit_code, 0);
  const std::string help = RunShell(kBinary + " help").output;
  EXPECT_THAT(help, HasSubstr("unipool COMMAND"));
  EXPECT_EQ(RunShell(kBinary).output, help);
  const std::string generate = RunShell(kBinary + " generate -h").output;
  EXPECT_EQ(RunShell(kBinary + " help generate").output, generate);
  EXPECT_THAT(generate, testing::ContainsRegex("--max_tokens=N  +tokens to add \\[200\\]\n"));
  const Outcome printed = RunShell(kBinary + " train " + kDemo + " --print_config train.steps=77");
  EXPECT_EQ(printed.exit_code, 0);
  EXPECT_THAT(printed.output, HasSubstr("\n  steps: 77\n"));
}

TEST(Program, SaysWhatItIs) {
  const Outcome version = RunShell(kBinary + " --version");
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.output,
              testing::MatchesRegex("unipool [0-9]+\\.[0-9]+\\.[0-9]+\ncommit    [0-9a-z+]+\n"
                                    "compiler  (GCC|clang) [0-9]+\\..+\nMPI       .*[0-9]+.*\n"
                                    "CUDA      .+\n"));
}

TEST(Program, OneMessageUnderMpirun) {
  const std::string mpirun = "mpirun --allow-run-as-root --oversubscribe -np 3 ";  // of Open MPI 4 and 5
  const Outcome flag = RunShell(mpirun + kBinary + " train --jsom");
  EXPECT_EQ(flag.exit_code, 2) << flag.output;
  EXPECT_EQ(Count(flag.output, "--jsom: unknown flag"), 1) << flag.output;
  const Outcome setting = RunShell(mpirun + kBinary + " info " + kDemo + " train.global_batch=32");
  EXPECT_EQ(setting.exit_code, 2) << setting.output;
  EXPECT_EQ(Count(setting.output,
                  "train.global_batch: is 32 sequences, which is not a multiple of train.micro_batch (4) x "
                  "data ranks (3)"),
            1)
      << setting.output;
  const Outcome good =
      RunShell(mpirun + kBinary + " info " + kDemo + " parallel.ranks=3 train.global_batch=24 --json");
  EXPECT_EQ(good.exit_code, 0) << good.output;
  EXPECT_EQ(Count(good.output, "\"vocab_rows\""), 1) << good.output;
}

}  // namespace
}  // namespace unipool
