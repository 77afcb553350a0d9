#include "models/pool_shares.h"

#include <algorithm>
#include <numeric>

namespace unipool {

PoolShares::PoolShares(const ModelSpec& spec, const BalanceOptions& options, const Mesh& mesh,
                       WaitClock& clock)
    : spec_(spec),
      options_(options),
      mesh_(mesh),
      clock_(clock),
      in_force_{std::vector<double>(spec.num_balance_groups * spec.experts)},
      at_begin_(in_force_),
      state_shares_(state_rows() * size()) {
  if (options.balance != Balance::POOL_LOSS || options.scope == BalanceScope::STEP) return;
  const int color = options.scope == BalanceScope::RANK ? mesh.data_rank() : 0;
  reduction_ = std::make_unique<PoolBalance>(mesh.SplitWorld(color, mesh.world().rank(), "balance"), size(),
                                             static_cast<int>(options.microbatches_in_flight) + 2);
}

void PoolShares::BeginStep(int64_t step) {
  step_ = step;
  at_begin_ = in_force_;
}

void PoolShares::EndMicrobatch(int64_t microbatch, std::span<const double> counts) {
  const int64_t number = step_ * options_.microbatches_per_rank + microbatch;
  if (reduction_) clock_.Time([&] { reduction_->Start(number, counts); });
}

void PoolShares::Refresh(int64_t microbatch) {
  if (!reduction_ || microbatch == 0) return;
  const int64_t number = step_ * options_.microbatches_per_rank + microbatch - 1;
  if (number == in_force_.number) return;
  clock_.Time([&] { SetFromCounts(reduction_->Sum(number)); });
  in_force_.number = number;
}

void PoolShares::EndStep(std::span<const double> group_counts) {
  in_force_.number = LastNumberOf(step_);
  if (reduction_) {
    clock_.Time([&] { SetFromCounts(reduction_->Sum(in_force_.number)); });
  } else {
    SetFromCounts(group_counts);
  }
}

void PoolShares::CancelStep() {
  // Its exchange must end.
  if (reduction_) clock_.Time([&] { reduction_->Sum(LastNumberOf(step_)); });
  in_force_ = at_begin_;
}

int64_t PoolShares::StepOfShares() const {
  if (!exist() || !reduction_) return in_force_.number;
  return (in_force_.number + 1) / options_.microbatches_per_rank - 1;
}

void PoolShares::SetFromCounts(std::span<const double> counts) {
  for (int64_t first = 0; first < size(); first += spec_.experts) {
    const std::span<const double> group = counts.subspan(first, spec_.experts);
    const double total = std::accumulate(group.begin(), group.end(), 0.0);
    for (int64_t i = 0; i < spec_.experts; ++i)
      in_force_.of_experts[first + i] = total > 0 ? group[i] / total : 0;
  }
}

void PoolShares::CollectState() {
  std::fill(state_shares_.begin(), state_shares_.end(), 0.0);
  // Stages of one data rank hold the same shares: one of them contributes.
  if (options_.scope != BalanceScope::RANK || mesh_.position().stage == 0) {
    std::copy(in_force_.of_experts.begin(), in_force_.of_experts.end(), own_state());
  }
  if (options_.scope == BalanceScope::RANK) {
    const Tensor all(state_shares_.data(), DType::kF64, {static_cast<int64_t>(state_shares_.size())});
    mesh_.world().AllReduceSum(all, {.operation = "balance state", .step = step_});
  }
  state_step_ = static_cast<double>(StepOfShares());
}

std::vector<DiskTensor> PoolShares::State() {
  if (options_.balance != Balance::POOL_LOSS) return {};
  const int64_t rows = state_rows();
  std::string name =
      options_.scope == BalanceScope::STEP ? "balance.step_shares" : "balance.microbatch_shares";
  if (options_.scope == BalanceScope::RANK)
    name = Format("balance.shares_of_%d_ranks", static_cast<int>(rows));
  return {{.name = name,
           .shape = {rows, size()},
           .value = Tensor(state_shares_.data(), DType::kF64, {rows, size()}),
           .optional = true},
          {.name = name + ".step",
           .shape = {1},
           .value = Tensor(&state_step_, DType::kF64, {1}),
           .optional = true}};
}

void PoolShares::StateLoaded() {
  std::copy_n(own_state(), size(), in_force_.of_experts.begin());
  const auto step = static_cast<int64_t>(state_step_);
  in_force_.number = LastNumberOf(step);
  step_ = std::max<int64_t>(step, 0);
}

}  // namespace unipool
