#include "models/step_sums.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/buffer.h"
#include "runtime/errors.h"

namespace unipool {

StepSums::StepSums(const ModelSpec& spec, int num_ranks, int64_t num_traffic, bool has_scores)
    : counts(spec.layers * spec.experts),
      ties(spec.layers * spec.experts),
      scores(has_scores ? spec.layers * spec.experts : 0),
      importance(spec.layers * spec.experts),
      grad_squares(1 + spec.experts),
      riders(kMostRiders),
      traffic(num_traffic),
      memory_peaks(int64_t{num_ranks} * kNumMemoryKinds),
      held_rows(int64_t{num_ranks} * HeldRows::kNumNumbers) {
  size_t numbers = 0;
  ForEach([&](double&) { ++numbers; });
  CHECK_EQ(static_cast<int64_t>(numbers),
           NumNumbers(spec.layers * spec.experts, spec.experts, num_ranks, num_traffic, has_scores));
  exchanged_.resize(numbers);
}

int64_t StepSums::NumNumbers(int64_t counts, int64_t experts, int num_ranks, int64_t num_traffic,
                             bool has_scores) {
  constexpr int64_t kSingle = 6, kArraysOfCounts = 3;
  return kSingle + (kArraysOfCounts + has_scores) * counts + 1 + experts + kMostRiders + num_traffic +
         int64_t{num_ranks} * (kNumMemoryKinds + HeldRows::kNumNumbers);
}

std::span<double> StepSums::memory_of(int rank) {
  return std::span(memory_peaks).subspan(int64_t{rank} * kNumMemoryKinds, kNumMemoryKinds);
}

std::span<const double> StepSums::memory_of(int rank) const {
  return std::span(memory_peaks).subspan(int64_t{rank} * kNumMemoryKinds, kNumMemoryKinds);
}

void StepSums::SetRowsOf(int rank, const HeldRows& rows) {
  const auto values = rows.values();
  std::copy(values.begin(), values.end(), held_rows.begin() + int64_t{rank} * HeldRows::kNumNumbers);
}

HeldRows StepSums::RowsOf(int rank) const {
  HeldRows rows;
  const double* value = held_rows.data() + int64_t{rank} * HeldRows::kNumNumbers;
  for (int64_t* number : rows.numbers()) *number = std::llround(*value++);
  return rows;
}

template <class Visit>
void StepSums::ForEach(Visit visit) {
  for (double* number :
       {&loss, &pool_loss, &pool_loss_at_balance, &zero_tokens, &used_experts, &expert_batches})
    visit(*number);
  for (std::vector<double>* numbers :
       {&counts, &ties, &scores, &importance, &grad_squares, &riders, &traffic, &memory_peaks, &held_rows}) {
    for (double& number : *numbers) visit(number);
  }
}

bool StepSums::AreFinite() const {
  return std::isfinite(loss) && std::isfinite(std::accumulate(grad_squares.begin(), grad_squares.end(), 0.0));
}

void StepSums::Clear() {
  ForEach([](double& number) { number = 0; });
}

void StepSums::Reduce(Communicator& world, int64_t step) {
  double* next = exchanged_.data();
  ForEach([&](const double& number) { *next++ = number; });
  const auto size = static_cast<int64_t>(exchanged_.size());
  world.AllReduceSum(Tensor(exchanged_.data(), DType::kF64, {size}),
                     {.operation = "step statistics", .step = step});
  next = exchanged_.data();
  ForEach([&](double& number) { number = *next++; });
}

}  // namespace unipool
