// The functions built on the exchange. Expected values are computed on each rank alone, from what every rank
// put in.
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "runtime/random.h"
#include "runtime/range.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

const ExchangeLabel kLabel{.operation = "test", .step = 1, .slot = 2};

// Element i that rank r puts in: magnitudes from 1e-6 to 1e6, so that the order of a floating-point sum
// shows.
template <class T>
T Value(uint64_t key, int r, int64_t i) {
  if constexpr (std::is_floating_point_v<T>) {
    const double exponent = 12 * RandomUniform(key + 1, i * 16 + r) - 6;
    return static_cast<T>((2 * RandomUniform(key, i * 16 + r) - 1) * std::pow(10, exponent));
  } else {
    return static_cast<T>(RandomBits(key, i * 16 + r) >> (sizeof(T) == 4 ? 36 : 4));
  }
}

template <class T>
std::vector<T> Values(uint64_t key, int r, int64_t n) {
  std::vector<T> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = Value<T>(key, r, i);
  return values;
}

template <class T>
std::vector<T> Sum(uint64_t key, int64_t n, const std::vector<int>& order) {
  std::vector<T> sum = Values<T>(key, order[0], n);
  for (size_t k = 1; k < order.size(); ++k) {
    // Rounded before it is added, so that no multiply-add is fused.
    const std::vector<T> other = Values<T>(key, order[k], n);
    for (int64_t i = 0; i < n; ++i) sum[i] += other[i];
  }
  return sum;
}

template <class T>
int64_t CountDifferent(const std::vector<T>& a, const std::vector<T>& b, Range range) {
  int64_t different = 0;
  for (int64_t i = range.begin; i < range.end; ++i) different += std::memcmp(&a[i], &b[i], sizeof(T)) != 0;
  return different;
}

std::vector<int> RankOrder(int size) {
  std::vector<int> order(size);
  for (int r = 0; r < size; ++r) order[r] = r;
  return order;
}

template <class T>
Tensor View(std::vector<T>& values) {
  return Tensor(values.data(), DTypeOf<T>::value, {static_cast<int64_t>(values.size())});
}

template <class T>
class Sums : public testing::Test {};
using SummedTypes = testing::Types<float, double, int32_t, int64_t>;
TYPED_TEST_SUITE(Sums, SummedTypes);

TYPED_TEST(Sums, AllReduceAddsInRankOrderBitForBit) {
  using T = TypeParam;
  RunOnRanks([](World& world) {
    for (const int64_t n : {0, 1, 2, 3, 5, 64, 1000, 100'003}) {
      std::vector<T> values = Values<T>(n, world.rank(), n);
      world.communicator->AllReduceSum(View(values), kLabel);
      EXPECT_EQ(CountDifferent(values, Sum<T>(n, n, RankOrder(world.size())), {0, n}), 0) << n;
    }
  });
}

TYPED_TEST(Sums, ReduceScatterLeavesTheOwnPart) {
  using T = TypeParam;
  RunOnRanks([](World& world) {
    for (const int64_t n : {1, 3, 10'001}) {
      std::vector<T> values = Values<T>(n, world.rank(), n);
      world.communicator->ReduceScatterSum(View(values), kLabel);
      const Range own = EvenPartition(n, world.size(), world.rank());
      EXPECT_EQ(CountDifferent(values, Sum<T>(n, n, RankOrder(world.size())), own), 0) << n;
    }
  });
}

TEST(Collectives, TheOrderOfTheSumIsSeenByTheTests) {
  if (NumTestRanks() < 3) GTEST_SKIP() << "two numbers have only one sum";
  std::vector<int> reversed = RankOrder(NumTestRanks());
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_GT(CountDifferent(Sum<float>(9, 1000, RankOrder(NumTestRanks())), Sum<float>(9, 1000, reversed),
                           {0, 1000}),
            100);
}

// Larger than the staging memory, so it goes in several pieces.
TEST(Collectives, AllReduceOfManyPieces) {
  RunOnRanks([](World& world) {
    const int64_t n = 3'000'017;
    std::vector<int32_t> values(n);
    for (int64_t i = 0; i < n; ++i) values[i] = static_cast<int32_t>(i * (world.rank() + 1));
    world.communicator->AllReduceSum(View(values), kLabel);
    int64_t wrong = 0;
    const int64_t factor = world.size() * (world.size() + 1) / 2;
    for (int64_t i = 0; i < n; ++i) wrong += values[i] != static_cast<int32_t>(i * factor);
    EXPECT_EQ(wrong, 0);
  });
}

TEST(Collectives, AllGatherParts) {
  RunOnRanks([](World& world) {
    for (const int64_t n : {0, 1, 2, 7, 1001}) {
      std::vector<double> values(n, std::numeric_limits<double>::quiet_NaN());
      const Range own = EvenPartition(n, world.size(), world.rank());
      for (int64_t i = own.begin; i < own.end; ++i) values[i] = 10.0 * i + world.rank();
      world.communicator->AllGatherParts(View(values), kLabel);
      for (int p = 0; p < world.size(); ++p) {
        const Range part = EvenPartition(n, world.size(), p);
        for (int64_t i = part.begin; i < part.end; ++i) ASSERT_EQ(values[i], 10.0 * i + p);
      }
    }
  });
}

TEST(Collectives, BroadcastFromEveryRoot) {
  RunOnRanks([](World& world) {
    for (int root = 0; root < world.size(); ++root) {
      std::vector<int> values(10'007, -1);
      for (size_t i = 0; i < values.size() && world.rank() == root; ++i)
        values[i] = static_cast<int>(i) * 8 + root;
      world.communicator->Broadcast(values.data(), values.size() * sizeof(int), root, kLabel);
      for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<int>(i) * 8 + root);
    }
  });
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// One clock for all ranks of a host: nobody may leave before the last has come.
TEST(Collectives, BarrierHoldsUntilTheLastHasCome) {
  RunOnRanks([](World& world) {
    for (int late = 0; late < world.size(); ++late) {
      world.communicator->Barrier(kLabel);
      if (world.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(30));
      const double came = Now();
      world.communicator->Barrier(kLabel);
      const double left = Now();
      EXPECT_GE(left, world.communicator->AllReduceMax(came, kLabel));
    }
  });
}

TEST(Collectives, MaxOfAllRanks) {
  RunOnRanks([](World& world) {
    Communicator& all = *world.communicator;
    EXPECT_EQ(all.AllReduceMax(-100 + world.rank(), kLabel), -101 + world.size());
    EXPECT_EQ(all.AllReduceMax(-world.rank(), kLabel), 0);
    for (int sick = 0; sick < world.size(); ++sick) {
      EXPECT_TRUE(std::isnan(all.AllReduceMax(world.rank() == sick ? NAN : 3, kLabel))) << sick;
    }
  });
}

TEST(Collectives, TextsOfAllRanks) {
  RunOnRanks([](World& world) {
    const auto text = [](int r) {
      return r == 1 ? std::string() : std::string(5000 * r + 1, static_cast<char>('a' + r));
    };
    const std::vector<std::string> all = world.communicator->AllGatherText(text(world.rank()), kLabel);
    ASSERT_EQ(static_cast<int>(all.size()), world.size());
    for (int r = 0; r < world.size(); ++r) EXPECT_EQ(all[r], text(r));
  });
}

TEST(Split, GroupsByColorOrderedByKey) {
  RunOnRanks([](World& world) {
    const int color = world.rank() % 2;
    const auto group = world.communicator->Split(color, -world.rank());  // the highest rank first
    std::vector<int> members;
    for (int r = world.size() - 1; r >= 0; --r) {
      if (r % 2 == color) members.push_back(r);
    }
    ASSERT_EQ(group->size(), static_cast<int>(members.size()));
    EXPECT_EQ(members[group->rank()], world.rank());
    const std::vector<std::string> names = group->AllGatherText(std::to_string(world.rank()), kLabel);
    for (int p = 0; p < group->size(); ++p) EXPECT_EQ(names[p], std::to_string(members[p]));

    // Both are used at once, and a group can be split again.
    std::vector<int64_t> sum{world.rank() + 1};
    const auto alone = group->Split(world.rank(), 0);
    EXPECT_EQ(alone->size(), 1);
    alone->AllReduceSum(View(sum), kLabel);
    EXPECT_EQ(sum[0], world.rank() + 1);
    group->AllReduceSum(View(sum), kLabel);
    int64_t expected = 0;
    for (const int r : members) expected += r + 1;
    EXPECT_EQ(sum[0], expected);
    sum[0] = 1;
    world.communicator->AllReduceSum(View(sum), kLabel);
    EXPECT_EQ(sum[0], world.size());
  });
}

TEST(Split, GroupsGoAtTheirOwnPace) {
  RunOnRanks([](World& world) {
    const auto group = world.communicator->Split(world.rank() == 0 ? 0 : 1, 0);
    for (int k = 0; k < 10 * (world.rank() == 0 ? 1 : 7); ++k) {
      std::vector<int64_t> count{1};
      group->AllReduceSum(View(count), kLabel);
      ASSERT_EQ(count[0], group->size());
    }
    world.communicator->Barrier(kLabel);
  });
}

TEST(Together, AProblemOfOneRankIsThrownOnAll) {
  RunOnRanks([](World& world) {
    for (int bad = 0; bad < world.size(); ++bad) {
      bool thrown = false;
      try {
        RunTogether(*world.communicator, [&] {
          if (world.rank() == bad) throw UserError({"first of " + std::to_string(bad), "second"});
        });
      } catch (const UserError& error) {
        thrown = true;
        EXPECT_EQ(error.problems(), (std::vector<std::string>{"first of " + std::to_string(bad), "second"}));
      }
      EXPECT_TRUE(thrown);
    }
    RunTogether(*world.communicator, [] {});  // throws nothing
    try {
      RunTogether(*world.communicator, [&] {
        throw UserError({"same", "own " + std::to_string(world.rank())});
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const UserError& error) {
      ASSERT_EQ(static_cast<int>(error.problems().size()), world.size() + 1);
      EXPECT_EQ(error.problems()[0], "same");
      for (int r = 0; r < world.size(); ++r) EXPECT_EQ(error.problems()[r + 1], "own " + std::to_string(r));
    }
  });
}

TEST(World, KnowsItsRanks) {
  RunOnRanks([](World& world) {
    EXPECT_EQ(world.size(), NumTestRanks());
    EXPECT_EQ(world.size(), WorldSize({.num_threads = NumTestRanks()}));
    EXPECT_EQ(world.is_mpi, UnderMpiLauncher());
    EXPECT_EQ(world.local_rank, world.rank());  // tests run on one host
    Buffer buffer = Buffer::Allocate(*world.memory, MemoryKind::kExchange, 1000 * (world.rank() + 1));
    // The meter counts this rank's memory alone.
    EXPECT_EQ(world.memory->current_bytes(MemoryKind::kExchange), 1000 * (world.rank() + 1));
  });
}

}  // namespace
}  // namespace unipool
