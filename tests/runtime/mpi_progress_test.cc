// When a job wants the thread. A job that has it is run by failing_rank_test.py.
#include "runtime/mpi_progress.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

namespace unipool {
namespace {

bool AutoWants(const std::map<const char*, const char*>& environment) {
  for (const auto& [name, value] : environment) setenv(name, value, 1);
  const bool wants = WantsProgressThread(ProgressThread::kAuto);
  for (const auto& [name, value] : environment) unsetenv(name);
  return wants;
}

TEST(MpiProgress, IsWantedWhereRanksLiveOnSeveralHosts) {
  EXPECT_FALSE(AutoWants({}));
  EXPECT_FALSE(AutoWants({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}}));
  EXPECT_FALSE(AutoWants({{"OMPI_COMM_WORLD_SIZE", "4"}}));
  EXPECT_TRUE(AutoWants({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}));
  EXPECT_FALSE(AutoWants({{"SLURM_STEP_NUM_NODES", "1"}}));
  EXPECT_TRUE(AutoWants({{"SLURM_STEP_NUM_NODES", "2"}}));
}

TEST(MpiProgress, TheUsersChoiceWins) {
  EXPECT_TRUE(WantsProgressThread(ProgressThread::kOn));
  setenv("SLURM_STEP_NUM_NODES", "2", 1);
  EXPECT_FALSE(WantsProgressThread(ProgressThread::kOff));
  unsetenv("SLURM_STEP_NUM_NODES");
}

}  // namespace
}  // namespace unipool
