#include "runtime/profile.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>
#include <thread>

namespace unipool {
namespace {

TEST(Profile, FloorIsTheLongerOfArithmeticAndBytesPerCall) {
  Profile profile(1e9, 1e6);
  profile.Add(Op::kGemm, 3.0, 2e9, 1e6);     // arithmetic: 2 s
  profile.Add(Op::kGemm, 7.0, 1e9, 5e6);     // bytes: 5 s
  profile.Add(Op::kSwiglu, 0.5, 0, 0.25e6);  // bytes: 0.25 s
  EXPECT_EQ(profile.cost(Op::kGemm).calls, 2);
  EXPECT_DOUBLE_EQ(profile.cost(Op::kGemm).seconds, 10);
  EXPECT_DOUBLE_EQ(profile.cost(Op::kGemm).floor_seconds, 7);
  EXPECT_DOUBLE_EQ(profile.Total().floor_seconds, 7.25);
}

TEST(Profile, TotalAddsAllKindsAndResetForgets) {
  Profile profile;
  profile.Add(Op::kGemm, 1, 10, 100);
  profile.Add(Op::kExchange, 2, 20, 200);
  EXPECT_EQ(profile.Total().calls, 2);
  EXPECT_EQ(profile.Total().seconds, 3);
  EXPECT_EQ(profile.Total().flops, 30);
  EXPECT_EQ(profile.Total().bytes, 300);
  EXPECT_EQ(profile.Total().floor_seconds, 0) << "no peaks were given";
  profile.Reset();
  EXPECT_EQ(profile.Total().calls, 0);
}

TEST(Profile, ClockIsTheWallsOrTheThreads) {
  const Profile wall, cpu(ProfileClock::kThreadCpu);
  const double wall_begin = wall.Now(), cpu_begin = cpu.Now();
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_GE(wall.Now() - wall_begin, 0.06);
  EXPECT_LT(cpu.Now() - cpu_begin, 0.05);
}

TEST(Op, HasANameEach) {
  std::set<std::string> names;
  for (int i = 0; i < kNumOps; ++i) names.insert(NameOf(static_cast<Op>(i)));
  EXPECT_EQ(names.size(), size_t{kNumOps});
  EXPECT_STREQ(NameOf(Op::kGemm), "gemm");
  EXPECT_STREQ(NameOf(Op::kExchange), "exchange");
}

}  // namespace
}  // namespace unipool
