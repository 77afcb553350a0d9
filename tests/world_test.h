// One test body for every world. A file tests/FLOOR/NAME_world_test.cc has
//
//   TEST(Dispatch, EveryRowArrives) {
//     RunOnRanks([](World& world) { ... EXPECT_EQ(...) ... });
//   }
//
// and is run at 1, 2, 3 and 4 ranks, in two ways. As threads of one process each test makes a world of
// UNIPOOL_TEST_RANKS threads (default 3). Under mpirun every process is a rank of the one world, and all
// processes run the same tests. A failure on any rank fails the run.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "runtime/world.h"

namespace unipool {

// Runs the body on every rank. A rank that leaves early (ASSERT) while others wait for it ends the run, and
// the message names that rank. REQUIRES: all ranks call it equally often. So a test decides by what all ranks
// know, for example NumTestRanks(), whether to run or to skip.
void RunOnRanks(const std::function<void(World&)>& body);

int NumTestRanks();

// How many C++ allocations (operator new) this thread has made. Tests prove with it that a step allocates
// nothing.
int64_t NumAllocations();

}  // namespace unipool
