#include "runtime/emulation_report.h"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/thread_communicator.h"

namespace unipool {
namespace {

EmulationReport ReportOf(int rank) {
  const double r = rank + 1;
  const EmulatedCost dispatch{r, 0.1 * r, 0.3 * r, 1e6 * r, 4}, loss{0, 0, 0, 8, 1};
  EmulationReport report{.virtual_seconds = 10 * r, .compute_seconds = 8.9 * r};
  report.operations = {{"dispatch forward", dispatch}, {"loss", loss}};
  if (rank == 1) std::swap(report.operations[0], report.operations[1]);
  report.total.Add(dispatch);
  report.total.Add(loss);
  return report;
}

void ExpectEqual(const EmulatedCost& a, const EmulatedCost& b) {
  EXPECT_EQ(a.idle_seconds, b.idle_seconds);
  EXPECT_EQ(a.exposed_seconds, b.exposed_seconds);
  EXPECT_EQ(a.hidden_seconds, b.hidden_seconds);
  EXPECT_EQ(a.bytes_sent, b.bytes_sent);
  EXPECT_EQ(a.num_exchanges, b.num_exchanges);
}

TEST(EmulationReport, OfAllRanksIsGatheredBitForBit) {
  auto communicators = MakeThreadCommunicators(3, {.exchange = std::chrono::milliseconds{20'000}});
  std::vector<std::thread> threads;
  for (auto& communicator : communicators) {
    threads.emplace_back([own = std::move(communicator)] {
      const std::vector<EmulationReport> all = GatherReports(*own, ReportOf(own->rank()));
      ASSERT_EQ(all.size(), 3u);
      for (int r = 0; r < 3; ++r) {
        const EmulationReport expected = ReportOf(r);
        EXPECT_EQ(all[r].virtual_seconds, expected.virtual_seconds);
        EXPECT_EQ(all[r].compute_seconds, expected.compute_seconds);
        ExpectEqual(all[r].total, expected.total);
        ASSERT_EQ(all[r].operations.size(), 2u);
        for (int i = 0; i < 2; ++i) {
          EXPECT_EQ(all[r].operations[i].first, expected.operations[i].first);
          ExpectEqual(all[r].operations[i].second, expected.operations[i].second);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(EmulationReport, AddsOperationsByName) {
  EmulationReport sum = ReportOf(0);
  sum.Add(ReportOf(1));
  EXPECT_EQ(sum.virtual_seconds, 30);
  ASSERT_EQ(sum.operations.size(), 2u);
  EXPECT_EQ(sum.operations[0].first, "dispatch forward");
  EXPECT_EQ(sum.operations[0].second.idle_seconds, 3);
  EXPECT_EQ(sum.operations[0].second.num_exchanges, 8);
  EXPECT_EQ(sum.operations[1].second.bytes_sent, 16);
}

TEST(EmulatedCost, HiddenShareIsOfTheWireTime) {
  EXPECT_EQ((EmulatedCost{.exposed_seconds = 1, .hidden_seconds = 3}).HiddenShare(), 0.75);
  EXPECT_EQ(EmulatedCost{}.HiddenShare(), 1);
}

TEST(EmulationReport, TablesDivideBySteps) {
  const std::vector<EmulationReport> ranks{ReportOf(0), ReportOf(1)};
  EXPECT_EQ(RankTable(ranks, 10),
            " rank virtual ms compute ms    idle ms exposed ms  hidden ms  hidden %    MB sent\n"
            "    0   1000.000    890.000    100.000     10.000     30.000      75.0      0.100\n"
            "    1   2000.000   1780.000    200.000     20.000     60.000      75.0      0.200\n");
  EXPECT_EQ(OperationTable(ranks, 10),
            "operation, mean of ranks            idle ms exposed ms  hidden ms  hidden %    MB sent\n"
            "dispatch forward                    150.000     15.000     45.000      75.0      0.150\n"
            "loss                                  0.000      0.000      0.000         -      0.000\n");
}

}  // namespace
}  // namespace unipool
