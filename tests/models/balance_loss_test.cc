// Pool loss and Switch loss of one rank against their formulas, with numbers that can be followed by hand.
#include "models/balance_loss.h"

#include <gtest/gtest.h>

#include "parallel/mesh.h"
#include "tests/models/small_model.h"

namespace unipool {
namespace {

// Two layers that share a group of two experts.
ModelSpec SpecOfOneGroup() {
  ModelSpec spec;
  spec.layers = 2;
  spec.experts = 2;
  spec.top_k = 1;
  spec.visible = {{1, 1}, {1, 1}};
  spec.balance_group = {0, 0};
  spec.num_balance_groups = 1;
  return spec;
}

// alpha 0.5, T 4 tokens, B 3 microbatches, 1 rank.
BalanceOptions Options(Balance::Value balance) {
  return {.balance = balance, .coeff = 0.5, .tokens_per_microbatch = 4, .microbatches_per_rank = 3};
}

class BalanceLossTest : public testing::Test {
 protected:
  // No choice has score 0, unless `positive` says otherwise.
  std::vector<double> GradientOf(BalanceLoss& loss, std::vector<int64_t> counts) {
    return GradientOf(loss, counts, counts);
  }
  std::vector<double> GradientOf(BalanceLoss& loss, std::vector<int64_t> counts,
                                 std::vector<int64_t> positive) {
    const Tensor gradient = loss.Gradient(0, 0,
                                          {.all = Tensor(counts.data(), DType::kI64, {2}),
                                           .positive = Tensor(positive.data(), DType::kI64, {2})});
    return {gradient.as<double>(), gradient.as<double>() + 2};
  }
  StepSums Booked(const BalanceLoss& loss) {
    StepSums sums(spec_, 1);
    loss.AddTo(sums);
    return sums;
  }
  const ModelSpec spec_ = SpecOfOneGroup();
  OneRank one_;
  const Mesh mesh_{*one_.communicator, MeshShape{}};
  MemoryMeter memory_;
  Stream stream_{memory_};
  WaitClock clock_;
  std::vector<double> scores_{6, 2};
  const Tensor score_sum_{scores_.data(), DType::kF64, {2}};
};

TEST_F(BalanceLossTest, PoolLossUsesTheSharesOfTheStepBefore) {
  const BalanceOptions options = Options(Balance::POOL_LOSS);
  PoolShares shares(spec_, options, mesh_, clock_);
  BalanceLoss loss(spec_, options, shares, DType::kF64, stream_, memory_);
  shares.BeginStep(0);
  EXPECT_FALSE(shares.exist());
  EXPECT_EQ(GradientOf(loss, {4, 0}), (std::vector<double>{0, 0})) << "there are no shares yet";
  loss.Book(score_sum_);
  EXPECT_EQ(Booked(loss).pool_loss, 0);
  EXPECT_EQ(Booked(loss).pool_loss_at_balance, 0);

  shares.EndStep(std::vector<double>{9, 3});  // fbar 3/4 and 1/4
  shares.BeginStep(1);
  loss.BeginStep();
  EXPECT_EQ(shares.age(), 1);
  // g = alpha M fbar / (2 layers * 4 tokens * 3 microbatches)
  const double scale = 0.5 * 2 / 24;
  EXPECT_EQ(GradientOf(loss, {0, 4}), (std::vector<double>{scale * 0.75, scale * 0.25}));
  loss.Book(score_sum_);
  EXPECT_DOUBLE_EQ(Booked(loss).pool_loss, scale * (0.75 * 6 + 0.25 * 2));
  EXPECT_DOUBLE_EQ(Booked(loss).pool_loss_at_balance, scale * 0.5 * (6 + 2));
}

TEST_F(BalanceLossTest, SwitchLossUsesTheLayersOwnCounts) {
  const BalanceOptions options = Options(Balance::LAYER_LOSS);
  PoolShares shares(spec_, options, mesh_, clock_);
  BalanceLoss loss(spec_, options, shares, DType::kF64, stream_, memory_);
  const double scale = 0.5 * 2 / 12;  // one layer
  EXPECT_EQ(GradientOf(loss, {1, 3}), (std::vector<double>{scale * 0.25, scale * 0.75}));
  loss.Book(score_sum_);
  loss.Book(score_sum_);  // of the next layer
  EXPECT_DOUBLE_EQ(Booked(loss).pool_loss, 2 * scale * (0.25 * 6 + 0.75 * 2));
  EXPECT_DOUBLE_EQ(Booked(loss).pool_loss_at_balance, 2 * scale * 0.5 * (6 + 2));
  loss.BeginStep();
  EXPECT_EQ(Booked(loss).pool_loss, 0);
}

TEST_F(BalanceLossTest, SwitchLossOfPositiveChoices) {
  BalanceOptions options = Options(Balance::LAYER_LOSS);
  options.counts = BalanceCounts::POSITIVE;
  PoolShares shares(spec_, options, mesh_, clock_);
  BalanceLoss loss(spec_, options, shares, DType::kF64, stream_, memory_);
  const double scale = 0.5 * 2 / 12;
  EXPECT_EQ(GradientOf(loss, {3, 1}, {1, 1}), (std::vector<double>{scale / 2, scale / 2}));
  EXPECT_EQ(GradientOf(loss, {4, 0}, {0, 0}), (std::vector<double>{0, 0})) << "nothing was used";
}

// Only the expert above its even share is pushed down, by what it has too much.
TEST_F(BalanceLossTest, HingeLeavesTheUnderusedAlone) {
  for (const Balance::Value balance : {Balance::POOL_LOSS, Balance::LAYER_LOSS}) {
    BalanceOptions options = Options(balance);
    options.hinge = true;
    PoolShares shares(spec_, options, mesh_, clock_);
    BalanceLoss loss(spec_, options, shares, DType::kF64, stream_, memory_);
    shares.EndStep(std::vector<double>{9, 3});
    const double scale = 0.5 * 2 / (balance == Balance::POOL_LOSS ? 24 : 12);
    EXPECT_EQ(GradientOf(loss, {3, 1}), (std::vector<double>{scale * 0.25, 0}));
    loss.Book(score_sum_);
    EXPECT_DOUBLE_EQ(Booked(loss).pool_loss, scale * 0.25 * 6);
    EXPECT_EQ(Booked(loss).pool_loss_at_balance, 0) << "at balance nobody is pushed";
  }
}

TEST_F(BalanceLossTest, WithoutALossTheGradientIsZero) {
  for (const Balance::Value balance : {Balance::BIAS, Balance::NONE}) {
    const BalanceOptions options = Options(balance);
    PoolShares shares(spec_, options, mesh_, clock_);
    BalanceLoss loss(spec_, options, shares, DType::kF64, stream_, memory_);
    shares.EndStep(std::vector<double>{9, 3});
    EXPECT_EQ(GradientOf(loss, {1, 3}), (std::vector<double>{0, 0}));
    loss.Book(score_sum_);
    EXPECT_EQ(Booked(loss).pool_loss, 0);
  }
}

}  // namespace
}  // namespace unipool
