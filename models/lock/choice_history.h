// How often each layer chose each expert in the last validations, smoothed: the counts of the newest weigh
// alpha, those of the one before alpha (1 - alpha), and so on; weights are scaled to the sum 1.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace unipool {

class ChoiceHistory {
 public:
  // Of the last `window` validations at most; `size` counts each.
  ChoiceHistory(int window, double alpha, int64_t size);

  void Add(std::span<const double> counts);  // whole numbers
  void Clear() { num_ = 0; }
  int num() const { return num_; }
  // Smoothed counts [size]; zeros without any.
  std::vector<double> Smoothed() const;

  // Rows of counts, newest first, for checkpoints: [window * size]. SetNum says how many were loaded.
  std::vector<double>& rows() { return rows_; }
  void SetNum(int num) { num_ = num; }
  int window() const { return window_; }

 private:
  const int window_;
  const double alpha_;
  const int64_t size_;
  std::vector<double> rows_;
  int num_ = 0;
};

}  // namespace unipool
