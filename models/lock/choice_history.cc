#include "models/lock/choice_history.h"

#include <glog/logging.h>

#include <algorithm>

namespace unipool {

ChoiceHistory::ChoiceHistory(int window, double alpha, int64_t size)
    : window_(window), alpha_(alpha), size_(size), rows_(window * size) {}

void ChoiceHistory::Add(std::span<const double> counts) {
  CHECK_EQ(static_cast<int64_t>(counts.size()), size_);
  std::copy_backward(rows_.begin(), rows_.end() - size_, rows_.end());
  std::copy(counts.begin(), counts.end(), rows_.begin());
  num_ = std::min(num_ + 1, window_);
}

std::vector<double> ChoiceHistory::Smoothed() const {
  std::vector<double> smoothed(size_);
  double weight = alpha_, sum = 0;
  for (int age = 0; age < num_; ++age, weight *= 1 - alpha_) {
    for (int64_t i = 0; i < size_; ++i) smoothed[i] += weight * rows_[age * size_ + i];
    sum += weight;
  }
  for (double& count : smoothed) count = sum > 0 ? count / sum : 0;
  return smoothed;
}

}  // namespace unipool
