// The script as golden files (tests/fixtures/submit), which a change of the template rewrites where
// UNIPOOL_REWRITE_GOLDEN is set; and what odd texts become in it.
#include "launcher/slurm/submit_script.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "launcher/slurm/child_process.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::HasSubstr;
using testing::Not;

ScriptInput Input() {
  ScriptInput input{.program = "/opt/unipool/unipool",
                    .config = "/home/ada/small.txtpb",
                    .run_dir = "/lustre/ada/runs/small",
                    .folder = "/home/ada",
                    .settings = {"data.train=books", "train.steps=1000"},
                    .command = {"unipool", "submit", "small.txtpb"},
                    .version = "0123456789ab",
                    .launcher = "srun",
                    .launcher_reason = "srun, since this Slurm speaks pmix with MPI.",
                    .time_seconds = 7200,
                    .lead_seconds = 300};
  input.job.set_nodes(2);
  input.job.set_ranks_per_node(4);
  input.job.set_time("2:00:00");
  return input;
}

// Six sets of options.
std::vector<std::pair<std::string, ScriptInput>> Cases() {
  std::vector<std::pair<std::string, ScriptInput>> cases;
  cases.emplace_back("plain", Input());
  ScriptInput gpus = Input();
  gpus.job.set_gpus_per_node(4);
  gpus.job.set_cpus_per_rank(8);
  gpus.job.set_partition("gpu");
  gpus.job.set_account("ai-7");
  gpus.job.set_mem("200G");
  gpus.job.set_exclusive(true);
  gpus.job.set_interface("=ib0");
  gpus.job.set_node_check(true);
  cases.emplace_back("gpus", gpus);
  ScriptInput mpirun = Input();
  mpirun.launcher = "mpirun";
  mpirun.launcher_reason = "mpirun, as --launcher says.";
  mpirun.job.set_spare_nodes(1);
  mpirun.setup = "module load openmpi/4.1\nexport X=\"$HOME/x\"";
  cases.emplace_back("mpirun", mpirun);
  ScriptInput chain = Input();
  chain.job.set_chain("dependency");
  chain.job.set_max_restarts(5);
  chain.job.set_exclude("n7");
  chain.job.set_spare_nodes(2);
  chain.job.set_signal("USR1");
  cases.emplace_back("dependency", chain);
  ScriptInput array = Input();
  array.job.set_array("0-3%2");
  array.run_dir = "/lustre/ada/runs/lr_{array}";
  array.settings = {"train.seed={array}", "data.train=a b"};
  cases.emplace_back("array", array);
  ScriptInput odd = Input();
  odd.run_dir = "/lustre/it's $(touch oops) \"50%\" #1";
  odd.settings = {"data.train=0.5 my\\, book.txt", "x=`id`;$HOME"};
  odd.command = {"unipool", "submit", "a\nb"};
  odd.job.set_container("apptainer exec --bind '/a b' image.sif");
  odd.job.add_sbatch("--comment='two words' -D /tmp --nice");
  odd.job.set_job_name("a \"b\" \\ c");
  cases.emplace_back("odd", odd);
  return cases;
}

std::string Script(const ScriptInput& input) {
  return FillTemplate(BuiltInTemplate(), "template", ScriptValues(input));
}

TEST(SubmitScript, IsAsTheGoldenFiles) {
  for (const auto& [name, input] : Cases()) {
    const std::string path = std::string(UNIPOOL_SOURCE_DIR) + "/tests/fixtures/submit/" + name + ".sbatch";
    if (std::getenv("UNIPOOL_REWRITE_GOLDEN")) std::ofstream(path) << Script(input);
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    EXPECT_EQ(Script(input), text.str()) << path;
  }
}

TEST(SubmitScript, HasBetween80And120LinesAndNoPlaceholderIsLeft) {
  for (const auto& [name, input] : Cases()) {
    const std::string script = Script(input);
    const auto lines = std::count(script.begin(), script.end(), '\n');
    EXPECT_GE(lines, 80) << name;
    EXPECT_LE(lines, 125) << name;
    EXPECT_THAT(script, Not(HasSubstr("{{"))) << name;
  }
}

TEST(SubmitScript, IsSoundBash) {
  for (const auto& [name, input] : Cases()) {
    const auto outcome = RunChild({"bash", "-n", "-c", Script(input)});
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->err, "") << name;
  }
}

TEST(SubmitScript, PassesShellcheck) {
  if (!FindProgram("shellcheck")) GTEST_SKIP() << "shellcheck is not installed";
  for (const auto& [name, input] : Cases()) {
    const std::string path = testing::TempDir() + "unipool-" + std::to_string(getpid()) + ".sbatch";
    std::ofstream(path) << Script(input);
    // 2016: a dollar in single quotes, which is meant. 2317: it does not see that a trap calls a function.
    const auto outcome = RunChild({"shellcheck", "--exclude=SC2016,SC2317", path});
    std::filesystem::remove(path);
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->out, "") << name;
  }
}

// What the script's variables hold when bash has read it up to the setup lines.
std::string Variables(const ScriptInput& input, const std::string& index) {
  std::string script = Script(input);
  script.resize(script.find("\n# Your own lines"));
  const auto outcome =
      RunChild({"env", "SLURM_ARRAY_TASK_ID=" + index, "bash", "-c",
                script + "\nprintf '%s|' \"${program[@]}\" \"$config\" \"$run_dir\" \"${settings[@]}\""});
  return outcome ? outcome->out + outcome->err : "";
}

TEST(SubmitScript, OddTextsAreWordsAndRunNothing) {
  EXPECT_EQ(Variables(Cases()[5].second, ""),
            "apptainer|exec|--bind|/a b|image.sif|/opt/unipool/unipool|/home/ada/small.txtpb|"
            "/lustre/it's $(touch oops) \"50%\" #1|data.train=0.5 my\\, book.txt|x=`id`;$HOME|");
  EXPECT_FALSE(std::filesystem::exists("oops"));
}

TEST(SubmitScript, AnArraysIndexComesWhereItWasAskedFor) {
  EXPECT_EQ(Variables(Cases()[4].second, "3"),
            "/opt/unipool/unipool|/home/ada/small.txtpb|/lustre/ada/runs/lr_3|train.seed=3|data.train=a b|");
  EXPECT_EQ(SharedRunDir("/r/lr_{array}"), "/r/lr_array");
}

TEST(SbatchLines, HoldTheOptions) {
  const std::string lines = SbatchLines(Cases()[5].second);
  EXPECT_THAT(lines, HasSubstr(R"(#SBATCH --job-name="a \"b\" \\ c")"));
  EXPECT_THAT(lines, HasSubstr("\\\"50%%\\\""));
  EXPECT_THAT(lines, HasSubstr("#SBATCH --comment=\"two words\"\n#SBATCH -D /tmp\n#SBATCH --nice"));
  EXPECT_THAT(lines, HasSubstr("#SBATCH --signal=B:USR2@300"));
  EXPECT_THAT(SbatchLines(Cases()[3].second), HasSubstr("--no-requeue"));
}

TEST(FillTemplate, NamesWhatItDoesNotKnow) {
  EXPECT_EQ(FillTemplate("a {{x}} {{x}}b", "t", {{"x", "{{y}}"}}), "a {{y}} {{y}}b")
      << "values are not read again";
  try {
    FillTemplate("{{rundir}}\n{{open\n{{zzzzzzzz}}", "my.sh", {{"run_dir", ""}, {"config", ""}});
    FAIL();
  } catch (const UserError& error) {
    ASSERT_EQ(error.problems().size(), 3U);
    EXPECT_THAT(error.problems()[0],
                HasSubstr("my.sh: unknown placeholder {{rundir}}; did you mean run_dir?"));
    EXPECT_THAT(error.problems()[1], HasSubstr("not closed"));
    EXPECT_THAT(error.problems()[2], HasSubstr("known are config, run_dir"));
  }
}

TEST(SubmitScript, SpareNodesAreAskedForAndTrainOnlyWherePicked) {
  ScriptInput input = Input();
  input.job.set_spare_nodes(1);
  EXPECT_THAT(Script(input),
              testing::AllOf(HasSubstr("#SBATCH --nodes=3\n"),
                             HasSubstr("launch=(srun --mpi=pmix --nodes=2 --ntasks=8 "),
                             HasSubstr("run srun --mpi=pmix --nodes=3 --ntasks=12 "),
                             HasSubstr("--spare_nodes=1\n"), HasSubstr("launch+=(--nodelist=\"$picked\")")));
  input.launcher = "mpirun";
  EXPECT_THAT(Script(input), testing::AllOf(HasSubstr("run mpirun -np 12 "),
                                            HasSubstr("launch+=(--host \"${picked//,/:4,}:4\")")));
}

}  // namespace
}  // namespace unipool
