#include "launcher/slurm/slurm_text.h"

#include <gmock/gmock.h>

namespace unipool {
namespace {

using testing::ElementsAre;

TEST(ParseSlurmTime, KnowsAllForms) {
  EXPECT_EQ(ParseSlurmTime("90"), 5400);
  EXPECT_EQ(ParseSlurmTime("1:30"), 90);
  EXPECT_EQ(ParseSlurmTime("2:00:00"), 7200);
  EXPECT_EQ(ParseSlurmTime("1-12"), 36 * 3600);
  EXPECT_EQ(ParseSlurmTime("1-12:30"), 36 * 3600 + 1800);
  EXPECT_EQ(ParseSlurmTime("1-12:30:05"), 36 * 3600 + 1805);
  for (const char* text : {"", "UNLIMITED", "infinite", "2h", "1:2:3:4", "-1", "1-", "a-1", "1::2"})
    EXPECT_FALSE(ParseSlurmTime(text)) << text;
}

TEST(SlurmTimeText, IsReadBack) {
  for (const int64_t seconds : {1, 59, 3600, 86399, 86400, 123456})
    EXPECT_EQ(ParseSlurmTime(SlurmTimeText(seconds)), seconds);
  EXPECT_EQ(SlurmTimeText(93784), "1-02:03:04");
}

TEST(ExpandNodeList, KeepsOrderAndWidth) {
  EXPECT_THAT(ExpandNodeList("n[0-2,7],m5"), ElementsAre("n0", "n1", "n2", "n7", "m5"));
  EXPECT_THAT(ExpandNodeList("gpu[008-011]-ib"),
              ElementsAre("gpu008-ib", "gpu009-ib", "gpu010-ib", "gpu011-ib"));
  EXPECT_THAT(ExpandNodeList("localhost"), ElementsAre("localhost"));
  EXPECT_THAT(ExpandNodeList(""), ElementsAre());
  for (const char* text : {"n[1-", "n[a-b]", "n[3-1]", "n[0-999999999]"})
    EXPECT_THAT(ExpandNodeList(text), ElementsAre(text));
}

TEST(ParsePartitions, ReadsSinfo) {
  const auto parts = ParsePartitions(
      "main|1:00:00|4|128|257000|gpu:a100:8(S:0-1),nic:2\nlong|infinite|2|64|1000|(null)\nbroken\n");
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[0].name, "main");
  EXPECT_EQ(parts[0].limit_seconds, 3600);
  EXPECT_EQ(parts[0].gpus, 8);
  EXPECT_EQ(parts[0].memory_mb, 257000);
  EXPECT_FALSE(parts[1].limit_seconds);
  EXPECT_EQ(parts[1].gpus, 0);
  EXPECT_EQ(parts[1].nodes, 2);
}

TEST(ParseQueue, ReadsSqueueWithAnyName) {
  const auto jobs = ParseQueue(
      "12|RUNNING|1:00|59:00|2026-01-01T00:00:00|None|n[0-1]|a|b\n13_2|PENDING|0:00|1:00|N/"
      "A|(Priority)||x\n");
  ASSERT_EQ(jobs.size(), 2U);
  EXPECT_EQ(jobs[0].name, "a|b");
  EXPECT_EQ(jobs[0].nodes, "n[0-1]");
  EXPECT_EQ(jobs[1].id, "13_2");
  EXPECT_EQ(jobs[1].reason, "(Priority)");
}

TEST(ShownValue, TakesTheWholeName) {
  const std::string text = "JobId=1 JobName=x ReqNodeList=(null) ExcNodeList=n1,n2\n   NodeList=n0";
  EXPECT_EQ(ShownValue(text, "NodeList"), "n0");
  EXPECT_EQ(ShownValue(text, "ExcNodeList"), "n1,n2");
  EXPECT_EQ(ShownValue(text, "ReqNodeList"), "");
  EXPECT_EQ(ShownValue(text, "Absent"), "");
}

TEST(ParseMpiKinds, ReadsBothForms) {
  EXPECT_THAT(ParseMpiKinds("MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\nspecific pmix plugin versions "
                            "available: pmix_v4\n"),
              testing::IsSupersetOf({"pmix", "none", "pmi2"}));
  EXPECT_THAT(ParseMpiKinds("srun: MPI types are...\nsrun: none\nsrun: pmi2\n"),
              testing::Not(testing::Contains("pmix")));
}

TEST(NodesOfHosts, LeavesOutDomainsAndStrangers) {
  EXPECT_THAT(NodesOfHosts("n[0-2]", {"n1.site.org", "n7", "n0"}), ElementsAre("n1", "n0"));
  EXPECT_THAT(NodesOfHosts("a.b,a", {"a.b"}), ElementsAre("a.b"));
  EXPECT_EQ(JoinNodes({"n1", "n0"}), "n1,n0");
  EXPECT_EQ(JoinNodes({}), "");
}

TEST(ParsePreemption, ReadsBothAnswers) {
  const std::string config =
      "KillWait                = 30 sec\nPreemptMode             = REQUEUE\n"
      "PreemptType             = preempt/partition_prio\nUnkillableStepTimeout   = 60 sec\n";
  auto preemption =
      ParsePreemption(config, "PartitionName=poor GraceTime=120 Hidden=NO PreemptMode=REQUEUE State=UP\n");
  ASSERT_TRUE(preemption);
  EXPECT_TRUE(preemption->is_possible);
  EXPECT_EQ(preemption->grace_seconds, 120);
  EXPECT_EQ(preemption->kill_wait_seconds, 30);
  preemption = ParsePreemption(config, "PartitionName=rich GraceTime=0 PreemptMode=OFF\n");
  EXPECT_FALSE(preemption->is_possible);
  EXPECT_TRUE(ParsePreemption(config, "")->is_possible) << "the cluster's mode holds";
  EXPECT_FALSE(ParsePreemption("KillWait = 30 sec\nPreemptMode = CANCEL\nPreemptType = preempt/none\n", "")
                   ->is_possible);
  EXPECT_FALSE(ParsePreemption("slurm_load_ctl_conf error", ""));
}

}  // namespace
}  // namespace unipool
