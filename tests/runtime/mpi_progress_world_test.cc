// Data move while a rank only computes.
#include <vector>

#include "runtime/communicator.h"
#include "runtime/mpi_progress.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

// Large blocks: the receiver must be called again after the exchange has started, and so must the sender.
TEST(MpiProgress, BlocksArriveAtRanksThatOnlyReachPollPoints) {
  if (NumTestRanks() == 1 || !UnderMpiLauncher()) GTEST_SKIP() << "needs MPI and a second rank";
  RunOnRanks([](World& world) {
    constexpr size_t kBytes = 24 << 20;
    const auto size = static_cast<size_t>(world.size()), me = static_cast<size_t>(world.rank());
    const std::vector<char> out(kBytes, 'x');
    std::vector<char> in(kBytes, '\0');
    std::vector<SendBlock> send(size);
    std::vector<RecvBlock> recv(size);
    send[(me + 1) % size] = {out.data(), static_cast<int64_t>(kBytes)};
    recv[(me + size - 1) % size] = {in.data(), static_cast<int64_t>(kBytes)};
    const Communicator::Ticket ticket =
        world.communicator->Start(send, recv, {.operation = "poll", .step = 0, .slot = 0});
    const volatile char* last = &in.back();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (*last != 'x' && std::chrono::steady_clock::now() < end) PollPoint();
    EXPECT_EQ(*last, 'x');
    // Others may still need this rank to move what it sends.
    world.communicator->Wait(ticket);
    EXPECT_EQ(in, out);
  });
}

}  // namespace
}  // namespace unipool
