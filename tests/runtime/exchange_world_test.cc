// Every byte that is exchanged tells where it comes from, where it goes and in which exchange, so nothing can
// be mixed up unseen.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "runtime/mpi_communicator.h"
#include "runtime/random.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr char kPoison = static_cast<char>(0xa5);
constexpr int64_t kGuardBytes = 64;

// What rank `from` sends to rank `to` in exchange `e` of a test.
using SizeTable = std::function<int64_t(int e, int from, int to)>;

char ByteAt(int e, int from, int to, int64_t i) {
  const uint64_t origin = (static_cast<uint64_t>(e) << 32) + (from << 16) + to;
  return static_cast<char>(RandomBits(origin, i / 8) >> (i % 8 * 8));
}

// The memory of one exchange on one rank, with guards around each block.
class Blocks {
 public:
  Blocks(const SizeTable& sizes, int e, int rank, int size) : e_(e), rank_(rank), out_(size), in_(size) {
    for (int p = 0; p < size; ++p) {
      out_[p].resize(sizes(e, rank, p) + 2 * kGuardBytes, kPoison);
      in_[p].resize(sizes(e, p, rank) + 2 * kGuardBytes, kPoison);
      for (int64_t i = 0; i < sizes(e, rank, p); ++i) out_[p][kGuardBytes + i] = ByteAt(e, rank, p, i);
    }
  }
  Communicator::Ticket Start(Communicator& communicator) {
    std::vector<SendBlock> send;
    std::vector<RecvBlock> recv;
    for (auto& block : out_) send.push_back({block.data() + kGuardBytes, Bytes(block)});
    for (auto& block : in_) recv.push_back({block.data() + kGuardBytes, Bytes(block)});
    // The spans die when this returns.
    return communicator.Start(send, recv, {.operation = "test", .step = e_, .slot = 0});
  }
  // After Wait: checks what came, and destroys what was sent, which nobody may read any more.
  void CheckArrived() {
    for (auto& block : out_) std::fill(block.begin(), block.end(), kPoison);
    for (int p = 0; p < static_cast<int>(in_.size()); ++p) {
      int64_t wrong = 0;
      for (int64_t i = 0; i < kGuardBytes; ++i) {
        wrong += in_[p][i] != kPoison;
        wrong += in_[p][in_[p].size() - 1 - i] != kPoison;
      }
      EXPECT_EQ(wrong, 0) << "bytes around the block from rank " << p << " were written";
      for (int64_t i = 0; i < Bytes(in_[p]); ++i) wrong += in_[p][kGuardBytes + i] != ByteAt(e_, p, rank_, i);
      EXPECT_EQ(wrong, 0) << "of " << Bytes(in_[p]) << " bytes from rank " << p << " in exchange " << e_;
    }
  }

 private:
  static int64_t Bytes(const std::vector<char>& block) {
    return static_cast<int64_t>(block.size()) - 2 * kGuardBytes;
  }
  int e_, rank_;
  std::vector<std::vector<char>> out_, in_;
};

int64_t UnevenSizes(int e, int from, int to) {
  return static_cast<int64_t>(RandomBits(77, e * 64 + from * 8 + to) % 3) *
         (1 + 97 * from + 13 * to + 101 * e);
}

TEST(Exchange, EveryByteArrives) {
  RunOnRanks([](World& world) {
    for (int e = 0; e < 20; ++e) {
      Blocks blocks(UnevenSizes, e, world.rank(), world.size());
      world.communicator->Wait(blocks.Start(*world.communicator));
      blocks.CheckArrived();
    }
  });
}

TEST(Exchange, LargeBlocks) {
  RunOnRanks([](World& world) {
    const SizeTable sizes = [](int, int from, int to) { return (2 << 20) + 4099 * from + 7 * to; };
    Blocks blocks(sizes, 3, world.rank(), world.size());
    world.communicator->Wait(blocks.Start(*world.communicator));
    blocks.CheckArrived();
  });
}

// The order of waiting differs from the order of starting and from rank to rank.
void ExchangeInAnyOrder(World& world, const SizeTable& sizes, int num_rounds, int num_under_way) {
  const std::unique_ptr<Communicator> reversed = world.communicator->Split(0, -world.rank());
  Communicator* communicators[2] = {world.communicator, reversed.get()};
  struct UnderWay {
    Blocks blocks;
    Communicator* communicator;
    Communicator::Ticket ticket;
  };
  for (int round = 0; round < num_rounds; ++round) {
    std::vector<UnderWay> all;
    for (int k = 0; k < num_under_way; ++k) {
      const int e = round * num_under_way + k;
      Communicator* communicator = communicators[e % 2];
      UnderWay& x = all.emplace_back(Blocks(sizes, e, communicator->rank(), world.size()), communicator, 0);
      x.ticket = x.blocks.Start(*communicator);
    }
    std::vector<int> order(num_under_way);
    for (int k = 0; k < num_under_way; ++k) {
      order[k] = static_cast<int>(RandomPermutation(round * 8 + world.rank(), num_under_way, k));
    }
    for (const int k : order) {
      all[k].communicator->Wait(all[k].ticket);
      all[k].blocks.CheckArrived();
    }
  }
}

TEST(Exchange, SeveralUnderWayInAnyOrder) {
  RunOnRanks([](World& world) { ExchangeInAnyOrder(world, UnevenSizes, 10, 12); });
}

TEST(Exchange, ManySmallUnderWayInAnyOrder) {
  const SizeTable sizes = [](int e, int from, int to) { return RandomBits(e, from * 8 + to) % 40; };
  RunOnRanks([&](World& world) { ExchangeInAnyOrder(world, sizes, 100, 30); });
}

// Large enough that the library cannot buffer them: a rank that waits for the second has to let the first go
// on.
TEST(Exchange, LargeUnderWayInAnyOrder) {
  const SizeTable sizes = [](int e, int from, int to) { return 200'000 + 1000 * e + 10 * from + to; };
  RunOnRanks([&](World& world) { ExchangeInAnyOrder(world, sizes, 2, 4); });
}

// A rank may run far ahead through exchanges in which it has no part.
TEST(Exchange, EmptyBlocksWaitForNobody) {
  RunOnRanks([](World& world) {
    const int last = world.size() - 1;
    const SizeTable sizes = [&](int e, int from, int to) {
      return e % 50 == 49 && from == 0 && to == last ? 1000 : 0;
    };
    for (int e = 0; e < 200; ++e) {
      if (e % 50 == 0 && world.rank() == last) usleep(10'000);
      Blocks blocks(sizes, e, world.rank(), world.size());
      world.communicator->Wait(blocks.Start(*world.communicator));
      blocks.CheckArrived();
    }
  });
}

TEST(Exchange, NumbersMayWrapAround) {
  RunOnRanks([](World& world) {
    constexpr int kExchanges = 70'000, kUnderWay = 20;  // more than MPI has tags
    Communicator& all = *world.communicator;
    const int next = (world.rank() + 1) % world.size(),
              before = (world.rank() + world.size() - 1) % world.size();
    std::vector<SendBlock> send(world.size());
    std::vector<RecvBlock> recv(world.size());
    int out[kUnderWay], in[kUnderWay];
    Communicator::Ticket tickets[kUnderWay];
    int64_t wrong = 0;
    for (int e = 0; e < kExchanges; e += kUnderWay) {
      for (int k = 0; k < kUnderWay; ++k) {
        out[k] = (e + k) * 8 + world.rank();
        in[k] = -1;
        send[next] = {&out[k], sizeof(int)};
        recv[before] = {&in[k], sizeof(int)};
        tickets[k] = all.Start(send, recv, {.operation = "wrap", .step = e, .slot = k});
      }
      for (int k = kUnderWay; k-- > 0;) {
        all.Wait(tickets[k]);
        wrong += in[k] != (e + k) * 8 + before;
      }
    }
    EXPECT_EQ(wrong, 0);
  });
}

TEST(Exchange, AllocatesNothingInSteadyState) {
  RunOnRanks([](World& world) {
    Communicator& all = *world.communicator;
    std::vector<char> out(3000 * world.size(), 'x'), in(3000 * world.size());
    std::vector<float> values(400'000, 1);
    std::vector<SendBlock> send(world.size());
    std::vector<RecvBlock> recv(world.size());
    for (int p = 0; p < world.size(); ++p) {
      send[p] = {out.data() + 3000 * p, 3000};
      recv[p] = {in.data() + 3000 * p, 3000};
    }
    const auto step = [&](int64_t step) {
      Communicator::Ticket tickets[8];
      for (int k = 0; k < 8; ++k)
        tickets[k] = all.Start(send, recv, {.operation = "steady", .step = step, .slot = k});
      for (int k = 0; k < 8; ++k) all.Wait(tickets[k]);
      const int64_t count = static_cast<int64_t>(values.size());
      all.AllReduceSum(Tensor(values.data(), DType::kF32, {count}),
                       {.operation = "sum", .step = step, .slot = -1});
      all.AllReduceMax(1, {.operation = "max", .step = step, .slot = -1});
    };
    for (int k = 0; k < 40; ++k) step(k);
    const int64_t before = NumAllocations();
    for (int k = 0; k < 40; ++k) step(k);
    EXPECT_EQ(NumAllocations() - before, 0);
    std::vector<int> proof(1000);  // the count does count
    EXPECT_EQ(NumAllocations() - before, 1) << proof.size();
  });
}

TEST(Exchange, MpiCutsLargeBlocksIntoPieces) {
  if (!UnderMpiLauncher()) GTEST_SKIP() << "threads have no limit on the size of a block";
  RunOnRanks([](World& world) {
    MpiJob job({.exchange = std::chrono::milliseconds(60'000)});
    const auto pieces = MakeMpiCommunicator(job, 1000);
    for (int e = 0; e < 5; ++e) {
      const SizeTable sizes = [](int e, int from, int to) {
        return std::array<int64_t, 4>{999, 1000, 1001, 20'000}[(e + from + 2 * to) % 4];
      };
      Blocks blocks(sizes, e, world.rank(), world.size());
      pieces->Wait(blocks.Start(*pieces));
      blocks.CheckArrived();
    }
  });
}

}  // namespace
}  // namespace unipool
