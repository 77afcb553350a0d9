#include "launcher/slurm/submit_check.h"

#include <gmock/gmock.h>

namespace unipool {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

JobConfig Job() {
  JobConfig job;
  job.set_nodes(2);
  job.set_ranks_per_node(2);
  job.set_time("1:00:00");
  return job;
}

std::vector<std::string> Options(const JobConfig& job, const std::string& run_dir = "runs/a") {
  Findings findings;
  CheckOptions(job, run_dir, findings);
  return findings.problems;
}

std::vector<std::string> Times(const JobConfig& job, const std::optional<RunState>& state = std::nullopt) {
  Findings findings;
  CheckTimes(job, state, findings);
  return findings.problems;
}

const std::vector<PartitionPart> kParts = {
    {.name = "main", .limit_seconds = 7200, .nodes = 4, .cpus = 8, .memory_mb = 2000, .gpus = 2},
    {.name = "long", .limit_seconds = 86400, .nodes = 2, .cpus = 8, .memory_mb = 2000},
    {.name = "main", .limit_seconds = 7200, .nodes = 1, .cpus = 16, .memory_mb = 1000}};

std::vector<std::string> Cluster(const JobConfig& job, double need = 0,
                                 const std::string& standard = "main") {
  Findings findings;
  CheckCluster(job, kParts, standard, need, findings);
  return findings.problems;
}

TEST(CheckOptions, GoodOnesAreFine) {
  EXPECT_THAT(Options(Job()), IsEmpty());
}

TEST(CheckOptions, TellsAllAtOnce) {
  JobConfig job = Job();
  job.set_nodes(0);
  job.set_launcher("srum");
  job.set_chain("for ever");
  job.set_signal("KILL");
  job.set_max_failures(0);
  job.set_comment("a\nb");
  EXPECT_THAT(
      Options(job),
      testing::UnorderedElementsAre(
          HasSubstr("--nodes: is 0; must be at least 1"), HasSubstr("--launcher: is \"srum\"; may be auto"),
          HasSubstr("--chain: is \"for ever\"; may be requeue"), HasSubstr("--signal: is \"KILL\""),
          HasSubstr("--max_failures: is 0"), HasSubstr("--comment: has a line break")));
}

TEST(CheckOptions, ArraysNeedAFolderEach) {
  JobConfig job = Job();
  job.set_array("0-3");
  EXPECT_THAT(Options(job), ElementsAre(HasSubstr("put {array} into run_dir")));
  EXPECT_THAT(Options(job, "runs/{array}"), IsEmpty());
  EXPECT_THAT(Options(Job(), "runs/{array}"), ElementsAre(HasSubstr("there is no --array")));
}

TEST(CheckOptions, NoLineBreakGetsIntoTheHeader) {
  EXPECT_THAT(Options(Job(), "runs/a\n#SBATCH --nodes=3"),
              ElementsAre(HasSubstr("run_dir: has a line break")));
}

TEST(CheckOptions, GpusOfATaskAreRefusedWithAReason) {
  JobConfig job = Job();
  job.add_sbatch("--gpus-per-task=1 --nice");
  job.add_sbatch("--gpu-bind closest");
  EXPECT_THAT(Options(job), ElementsAre(AllOf(HasSubstr("--gpus-per-task"), HasSubstr("use --gpus_per_node")),
                                        HasSubstr("--gpu-bind")));
}

RunState Past(double step, double save) {
  RunState state;
  state.step_seconds = Quantiles{.median = step, .p90 = step, .max = step};
  state.save_seconds = Quantiles{.median = save, .p90 = save, .max = save};
  return state;
}

TEST(CheckTimes, TellsWrongTimes) {
  JobConfig job = Job();
  EXPECT_THAT(Times(job), IsEmpty());
  job.set_time("two hours");
  EXPECT_THAT(Times(job), ElementsAre(HasSubstr("--time: is \"two hours\"")));
  job = Job();
  job.set_lead("soon");
  EXPECT_THAT(Times(job), ElementsAre(HasSubstr("--lead: is \"soon\"")));
  job.set_lead("3000");
  EXPECT_THAT(Times(job),
              ElementsAre(AllOf(HasSubstr("more than half of --time (1:00:00)"), HasSubstr("at most 1800"))));
}

TEST(CheckTimes, KnowsHowLongAStepAndASaveTake) {
  JobConfig job = Job();
  job.set_lead("60");
  EXPECT_THAT(Times(job, Past(10, 90)), ElementsAre(HasSubstr("make it at least 120")));
  job.set_lead("auto");
  EXPECT_THAT(Times(job, Past(10, 90)), IsEmpty());
  EXPECT_EQ(LeadSeconds(job, 36000, Past(10, 90)), 180);
  EXPECT_EQ(LeadSeconds(job, 36000, std::nullopt), 300);
  EXPECT_EQ(LeadSeconds(job, 60, std::nullopt), 15);
  job.set_time("5");
  EXPECT_THAT(Times(job, Past(10, 90)),
              ElementsAre(AllOf(HasSubstr("--time: is 0:05:00, too short"), HasSubstr("at least 0:08:00"))));
}

TEST(CheckCluster, EveryLimitIsNamed) {
  EXPECT_THAT(Cluster(Job()), IsEmpty());
  JobConfig job = Job();
  job.set_partition("mian");
  EXPECT_THAT(Cluster(job), ElementsAre(HasSubstr("there is no mian; did you mean main?")));
  job = Job();
  job.set_time("3:00:00");
  job.set_nodes(9);
  job.set_cpus_per_rank(9);
  job.set_gpus_per_node(3);
  job.set_mem("4G");
  EXPECT_THAT(Cluster(job), ElementsAre(HasSubstr("the limit of partition main is 2:00:00"),
                                        HasSubstr("--nodes: is 9; there are 5"),
                                        HasSubstr("need 18 cores of a node; a node of partition main has 16"),
                                        HasSubstr("--gpus_per_node: is 3; a node of partition main has 2"),
                                        HasSubstr("--mem: is 4G; a node of partition main has 2000M")));
  EXPECT_THAT(Cluster(Job(), 0, ""), ElementsAre(HasSubstr("the cluster has no default; one of main, long")));
}

TEST(CheckCluster, MemoryMustFitWhatTheJobAsksFor) {
  JobConfig job = Job();
  EXPECT_THAT(Cluster(job, 1e9), IsEmpty());
  EXPECT_THAT(Cluster(job, 3e9), ElementsAre(AllOf(HasSubstr("need 3.000 GB"), HasSubstr("--mem 2862M"))));
  job.set_mem("500M");
  EXPECT_THAT(Cluster(job, 1e9), ElementsAre(HasSubstr("they may use 524.3 MB")));
  job.set_mem("lots");
  EXPECT_THAT(Cluster(job), ElementsAre(HasSubstr("--mem: is \"lots\"")));
}

TEST(ParseSlurmMemory, KnowsItsUnits) {
  EXPECT_EQ(ParseSlurmMemory("2"), 2 * 1024.0 * 1024);
  EXPECT_EQ(ParseSlurmMemory("1G"), 1024.0 * 1024 * 1024);
  EXPECT_EQ(ParseSlurmMemory("3KB"), 3072.0);
  for (const char* text : {"", "G", "1X", "1GG", "x1"}) EXPECT_FALSE(ParseSlurmMemory(text)) << text;
}

TEST(CheckRun, SettingsDataAndGpusAreLookedAt) {
  Config config;
  config.mutable_data()->add_train("there-is-no-such-file.txt");
  config.set_device(DeviceType::CUDA);
  config.mutable_train()->set_global_batch(7);
  Findings findings;
  CheckRun(config, Job(), findings);
  EXPECT_THAT(
      findings.problems,
      testing::IsSupersetOf({HasSubstr("there-is-no-such-file.txt"), HasSubstr("(for 2 nodes x 2 ranks)"),
                             HasSubstr("--gpus_per_node: is 0, and device is CUDA; make it 2")}));
}

TEST(CheckIsShared, MemoryOfANodeIsNoSharedFolder) {
  Findings findings;
  CheckIsShared("run_dir", "/dev/shm/new/run", Job(), findings);
  EXPECT_THAT(findings.problems, ElementsAre(HasSubstr("in this node's memory (tmpfs)")));
  JobConfig one = Job();
  one.set_nodes(1);
  findings = {};
  CheckIsShared("run_dir", "/dev/shm/new/run", one, findings);
  EXPECT_THAT(findings.problems, IsEmpty());
}

TEST(CheckRunDir, AFolderThatCannotBeWrittenIsTold) {
  Config config;
  config.set_run_dir("/proc/version/x");
  Findings findings;
  CheckRunDir(config, findings);
  EXPECT_THAT(findings.problems, ElementsAre(HasSubstr("run_dir: /proc/version is no folder")));
}

std::vector<std::string> PreemptionNotes(const Preemption& preemption, int64_t lead,
                                         const std::optional<RunState>& state) {
  Findings findings;
  CheckPreemption(preemption, lead, state, findings);
  EXPECT_THAT(findings.problems, IsEmpty());
  return findings.notes;
}

TEST(CheckPreemption, ComparesWithStepAndSaveOrElseWithTheLead) {
  RunState state;
  state.step_seconds = Quantiles{.max = 10};
  state.save_seconds = Quantiles{.max = 20};  // 36 s with the margin
  EXPECT_THAT(PreemptionNotes({.grace_seconds = 10, .kill_wait_seconds = 30}, 300, state), IsEmpty());
  EXPECT_THAT(PreemptionNotes({.grace_seconds = 5, .kill_wait_seconds = 30}, 300, state),
              ElementsAre(AllOf(HasSubstr("has 35 s to save (GraceTime 5, KillWait 30)"),
                                HasSubstr("a step and a save of this run take up to 36 s"),
                                HasSubstr("train.save_minutes"))));
  EXPECT_THAT(PreemptionNotes({.is_possible = false, .kill_wait_seconds = 30}, 300, std::nullopt), IsEmpty());
  EXPECT_THAT(PreemptionNotes({.is_possible = true, .kill_wait_seconds = 30}, 300, std::nullopt),
              ElementsAre(HasSubstr("30 s to save (GraceTime 0, KillWait 30), less than the lead of 300 s")));
  EXPECT_THAT(PreemptionNotes({.is_possible = true, .grace_seconds = 270, .kill_wait_seconds = 30}, 300,
                              std::nullopt),
              IsEmpty());
}

TEST(CheckCluster, SpareNodesMustBeThereToo) {
  JobConfig job = Job();
  job.set_nodes(4);
  job.set_spare_nodes(1);
  EXPECT_THAT(Cluster(job), IsEmpty());
  job.set_spare_nodes(2);
  EXPECT_THAT(Cluster(job), ElementsAre(HasSubstr("--nodes: is 4 and 2 spare; there are 5")));
  job.set_spare_nodes(-1);
  EXPECT_THAT(Options(job), ElementsAre(HasSubstr("--spare_nodes: is -1; must be at least 0")));
}

}  // namespace
}  // namespace unipool
