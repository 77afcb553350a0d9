// Counts of choices, by layer and by balance group, and what is told of them.
#include "models/load_statistics.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

// Three layers; the first two share a group of experts 0 and 1, the third has expert 2.
ModelSpec SpecOfTwoGroups() {
  ModelSpec spec;
  spec.layers = 3;
  spec.experts = 3;
  spec.visible = {{1, 1, 0}, {1, 1, 0}, {0, 0, 1}};
  spec.balance_group = {0, 0, 1};
  spec.num_balance_groups = 2;
  return spec;
}

// `ties` of the choices of expert 0 have score 0.
void Add(LoadStatistics& statistics, int layer, std::vector<int64_t> counts, int64_t zero_tokens,
         int64_t ties = 0) {
  std::vector<int64_t> positive = counts;
  positive[0] -= ties;
  statistics.AddLayer(layer, {.all = Tensor(counts.data(), DType::kI64, {3}),
                              .positive = Tensor(positive.data(), DType::kI64, {3}),
                              .num_off = zero_tokens});
}

std::vector<double> List(std::span<const double> numbers) {
  return {numbers.begin(), numbers.end()};
}

// What one of two equal ranks has counted becomes what both have counted.
StepSums SumsOfTwoRanks(const ModelSpec& spec, const LoadStatistics& statistics) {
  StepSums sums(spec, 2);
  statistics.AddTo(sums);
  for (double& count : sums.counts) count *= 2;
  for (double& ties : sums.ties) ties *= 2;
  sums.zero_tokens *= 2;
  return sums;
}

TEST(LoadStatistics, CountsLayersAndGroups) {
  const ModelSpec spec = SpecOfTwoGroups();
  LoadStatistics statistics(spec, BalanceCounts::ALL);
  Add(statistics, 0, {100, 100, 100}, 100);  // of a validation, say
  statistics.BeginStep();
  Add(statistics, 0, {4, 0, 0}, 1);
  Add(statistics, 1, {2, 2, 0}, 0);
  Add(statistics, 2, {0, 0, 4}, 2);
  EXPECT_EQ(List(statistics.microbatch_counts()), (std::vector<double>{6, 2, 0, 0, 0, 4}));
  statistics.EndMicrobatch();
  Add(statistics, 0, {4, 0, 0}, 0);
  EXPECT_EQ(statistics.microbatch_counts()[0], 4);

  const StepSums sums = SumsOfTwoRanks(spec, statistics);
  EXPECT_EQ(sums.zero_tokens, 6);
  statistics.EndStep(sums);
  EXPECT_EQ(statistics.step_counts(), (std::vector<double>{16, 0, 0, 4, 4, 0, 0, 0, 8}));
  EXPECT_EQ(List(statistics.balanced_group_counts()), (std::vector<double>{20, 4, 0, 0, 0, 8}));
  // The first group's mean is 24 / 2 experts, its largest load 20.
  EXPECT_DOUBLE_EQ(statistics.MaxViolation(), 20.0 / 12 - 1);
  EXPECT_EQ(statistics.NumDeadExperts(), 0);
}

// Load is choices with a positive score. What shares and biases see is as the setting says.
TEST(LoadStatistics, TiesAreNoLoad) {
  const ModelSpec spec = SpecOfTwoGroups();
  for (const BalanceCounts::Value counted : {BalanceCounts::ALL, BalanceCounts::POSITIVE}) {
    LoadStatistics statistics(spec, counted);
    statistics.BeginStep();
    Add(statistics, 0, {5, 1, 0}, 2, /*ties=*/4);
    Add(statistics, 1, {3, 1, 0}, 2, /*ties=*/3);
    Add(statistics, 2, {0, 0, 4}, 0);
    const bool is_all = counted == BalanceCounts::ALL;
    const std::vector<double> of_groups{is_all ? 8. : 1., 2, 0, 0, 0, 4};
    EXPECT_EQ(List(statistics.microbatch_counts()), of_groups);
    statistics.EndStep(SumsOfTwoRanks(spec, statistics));
    EXPECT_EQ(statistics.step_counts(), (std::vector<double>{2, 2, 0, 0, 2, 0, 0, 0, 8}));
    EXPECT_EQ(List(statistics.balanced_counts()),
              (std::vector<double>{is_all ? 10. : 2., 2, 0, is_all ? 6. : 0., 2, 0, 0, 0, 8}));
    EXPECT_EQ(List(statistics.balanced_group_counts()),
              (std::vector<double>{2 * of_groups[0], 4, 0, 0, 0, 8}));
    EXPECT_DOUBLE_EQ(statistics.MaxViolation(), 4.0 / 3 - 1) << "loads 2 and 4";
    EXPECT_DOUBLE_EQ(statistics.TieShare(), 14.0 / 28);
    statistics.BeginStep();
    Add(statistics, 0, {5, 1, 0}, 5, /*ties=*/5);
    statistics.EndStep(SumsOfTwoRanks(spec, statistics));
    EXPECT_EQ(statistics.NumDeadExperts(), 2) << "expert 0 has ties alone, expert 2 nothing";
  }
}

TEST(LoadStatistics, AnExpertIsDeadOnlyIfNoGroupUsesIt) {
  const ModelSpec spec = SpecOfTwoGroups();
  LoadStatistics statistics(spec, BalanceCounts::ALL);
  statistics.BeginStep();
  Add(statistics, 1, {3, 0, 0}, 0);
  statistics.EndStep(SumsOfTwoRanks(spec, statistics));
  EXPECT_EQ(statistics.NumDeadExperts(), 2);
  EXPECT_DOUBLE_EQ(statistics.MaxViolation(), 1);
  statistics.BeginStep();
  statistics.EndStep(SumsOfTwoRanks(spec, statistics));
  EXPECT_EQ(statistics.NumDeadExperts(), 3);
  EXPECT_EQ(statistics.MaxViolation(), 0);
}

}  // namespace
}  // namespace unipool
