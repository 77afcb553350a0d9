// One test body for every world. A file tests/FLOOR/NAME_world_test.cc writes
//
//   TEST(Dispatch, EveryRowArrives) {
//     RunOnRanks([](World& world) { ... EXPECT_EQ(...) ... });
//   }
//
// and is run at 1, 2, 3 and 4 ranks: as threads of one process (UNIPOOL_TEST_RANKS, default 3), and under
// mpirun, where every process is a rank of the one world and all of them run the same tests. A failure on any
// rank fails the run.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "runtime/world.h"

namespace unipool {

// Runs the body on every rank. A rank that leaves early (ASSERT) while others wait for it ends the run,
// naming it. All ranks must call it equally often, so a test decides by what all ranks know (NumTestRanks)
// whether to run or to skip.
void RunOnRanks(const std::function<void(World&)>& body);

int NumTestRanks();

// C++ allocations (operator new) that this thread has made: steady states are measured with it.
int64_t NumAllocations();

}  // namespace unipool
