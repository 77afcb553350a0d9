#include "launcher/traffic_report/joined_traffic.h"

#include <gmock/gmock.h>

#include "runtime/errors.h"
#include "tests/launcher/traffic_planted.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;

struct Joined {
  explicit Joined(const ExampleRun& example)
      : run(ReadRecordedRun(example.path(), {})), clocks(run), traffic(JoinTraffic(run, clocks)) {}
  RecordedRun run;
  ClockMap clocks;
  JoinedTraffic traffic;
};

TEST(JoinedTraffic, PutsRanksTogetherBySequence) {
  ExampleRun example(4, "joined");
  AddPlanted(example, {.layers = 2, .steps = 2});
  example.Write();
  const Joined joined(example);
  EXPECT_EQ(joined.traffic.communicators.size(), 1u);
  ASSERT_EQ(joined.traffic.exchanges.size(), 8u);
  ASSERT_EQ(joined.traffic.steps.size(), 2u);
  EXPECT_EQ(joined.traffic.incomplete, 0);
  for (size_t e = 0; e < 8; ++e) {
    const JoinedExchange& exchange = joined.traffic.exchanges[e];
    EXPECT_EQ(exchange.sequence, static_cast<int64_t>(e));
    EXPECT_EQ(exchange.step, static_cast<int64_t>(e / 4));
    ASSERT_EQ(exchange.parts.size(), 4u);
    for (int rank = 0; rank < 4; ++rank) {
      ASSERT_TRUE(exchange.parts[rank].recorded);
      EXPECT_EQ(joined.traffic.WorldRank(exchange, rank), rank);
      EXPECT_EQ(exchange.parts[rank].start, exchange.parts[rank].recorded->record.start_ns);
    }
  }
}

// A file of another job among those of the run.
TEST(JoinedTraffic, RefusesRanksThatDisagree) {
  const auto problem_of = [](const Planted& other) -> std::string {
    ExampleRun example(4, "disagree"), alien(4, "alien");
    AddPlanted(example, {});
    AddPlanted(alien, other);
    example.Write();
    alien.Write();
    std::filesystem::copy_file(alien.File("rank-00001.bin"), example.File("rank-00001.bin"),
                               std::filesystem::copy_options::overwrite_existing);
    try {
      const Joined joined(example);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(problem_of({}), "");
  EXPECT_THAT(problem_of({.layers = 3}), HasSubstr("is 'dispatch"));
  EXPECT_THAT(problem_of({.seed = 2}), HasSubstr("what one rank sent is not what another received"));
}

}  // namespace
}  // namespace unipool
