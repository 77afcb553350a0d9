// The main function of all FLOOR_world_tests programs.
#include <cstdio>
#include <cstdlib>

#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr std::chrono::milliseconds kTimeout{60'000};

World* mpi_world = nullptr;  // set while tests run under a launcher; MPI can be started only once

// Rank 0 prints what GoogleTest prints; the others only what fails.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name() ? result.file_name() : "?",
                 result.line_number(), result.message());
  }

 private:
  int rank_;
};

int RunAllTestsOnRank(World& world) {
  mpi_world = &world;
  if (world.rank() > 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    delete listeners.Release(listeners.default_xml_generator());
    listeners.Append(new FailurePrinter(world.rank()));
  }
  const int failed = RUN_ALL_TESTS();
  return static_cast<int>(world.communicator->AllReduceMax(failed, {.operation = "end of all tests"}));
}

}  // namespace

int NumTestRanks() {
  if (mpi_world) return mpi_world->size();
  const char* text = std::getenv("UNIPOOL_TEST_RANKS");
  return text ? std::atoi(text) : 3;
}

void RunOnRanks(const std::function<void(World&)>& body) {
  if (!mpi_world) {
    EXPECT_EQ(0, RunWorld({.num_threads = NumTestRanks(), .timeout = kTimeout}, body));
    return;
  }
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  mpi_world->communicator->Barrier({.operation = test->name()});
  body(*mpi_world);
}

}  // namespace unipool

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  if (!unipool::UnderMpiLauncher()) return RUN_ALL_TESTS();
  int failed = 0;
  const int exit_code = unipool::RunWorld({.timeout = unipool::kTimeout}, [&](unipool::World& world) {
    failed = unipool::RunAllTestsOnRank(world);
  });
  return exit_code ? exit_code : failed;
}
