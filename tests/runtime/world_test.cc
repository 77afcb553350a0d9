// What does not need the world's ranks to be tested: launchers, and the exit codes of jobs of threads.
#include "runtime/world.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <map>

#include "runtime/errors.h"

namespace unipool {
namespace {

class Environment {
 public:
  using Values = std::map<const char*, const char*>;
  explicit Environment(const Values& values) {
    for (const char* name : kNames) unsetenv(name);
    for (const auto& [name, value] : values) setenv(name, value, 1);
  }
  ~Environment() {
    for (const char* name : kNames) unsetenv(name);
  }

 private:
  static constexpr const char* kNames[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "SLURM_STEP_NUM_TASKS",
                                           "SLURM_NTASKS", "SLURM_JOB_ID"};
};

TEST(Launcher, IsRecognised) {
  const WorldOptions options{.num_threads = 5};
  {
    Environment shell({});
    EXPECT_FALSE(UnderMpiLauncher());
    EXPECT_EQ(WorldSize(options), 5);
  }
  {
    Environment batch_script({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}});
    EXPECT_FALSE(UnderMpiLauncher());
    EXPECT_EQ(WorldSize(options), 5);
  }
  {
    Environment mpirun({{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_RANK", "0"}});
    EXPECT_TRUE(UnderMpiLauncher());
    EXPECT_EQ(WorldSize(options), 1);
  }
  {
    Environment srun({{"PMIX_RANK", "3"}, {"SLURM_STEP_NUM_TASKS", "8"}});
    EXPECT_TRUE(UnderMpiLauncher());
    EXPECT_EQ(WorldSize(options), 8);
  }
  {
    Environment srun_without_pmix({{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_JOB_ID", "7"}});
    EXPECT_TRUE(UnderMpiLauncher()) << "or each of the 8 would train alone";
  }
}

int RunThreads(int ranks, const std::function<void(World&)>& body) {
  return RunWorld({.num_threads = ranks, .timeout = std::chrono::milliseconds(5000)}, body);
}

TEST(RunWorld, RunsTheBodyOncePerRank) {
  Environment shell({});
  for (const int ranks : {1, 2, 5}) {
    std::atomic<int> sum{0};
    EXPECT_EQ(RunThreads(ranks,
                         [&](World& world) {
                           EXPECT_EQ(world.size(), ranks);
                           sum += 1 << (4 * world.rank());
                         }),
              0);
    EXPECT_EQ(sum, ((1 << (4 * ranks)) - 1) / 15);
  }
}

TEST(RunWorld, AProblemOfAllRanksIsPrintedOnce) {
  Environment shell({});
  for (const int ranks : {1, 3}) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(RunThreads(ranks,
                         [](World&) {
                           throw UserError(std::vector<std::string>{"first", "second"});
                         }),
              kUserErrorExitCode);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "error: first\nerror: second\n");
  }
}

TEST(RunWorld, WhatOneRankMissesIsPrintedWithItsNumber) {
  Environment shell({});
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunThreads(3,
                       [](World& world) {
                         if (world.rank() == 2) throw UserError("no such file");
                       }),
            kUserErrorExitCode);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "error: rank 2: no such file\n");
}

}  // namespace
}  // namespace unipool
