// What the environment says of MPI's sends. Polls are tested with ranks (mpi_progress_world_test.cc), and a
// job that has the thread is run by failing_rank_test.py.
#include "runtime/mpi_progress.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace unipool {
namespace {

constexpr const char* kLimit = "OMPI_MCA_btl_tcp_eager_limit";

TEST(MpiProgress, TheUsersLimitOfSendsStays) {
  unsetenv(kLimit);
  SetLargeMpiSends();
  EXPECT_STREQ(std::getenv(kLimit), "1048576");
  setenv(kLimit, "70000", 1);
  SetLargeMpiSends();
  EXPECT_STREQ(std::getenv(kLimit), "70000");
  unsetenv(kLimit);
}

}  // namespace
}  // namespace unipool
