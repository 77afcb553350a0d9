#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/check_tensor.h"
#include "kernels/fast_exp.h"
#include "kernels/vector_sum.h"

namespace unipool {
namespace {

// Terms summed in T before the sum goes on in double: a vocabulary of 50k loses no digits.
constexpr int64_t kBlock = 4096;

// Sum of term(i) over the vocabulary.
template <class T, class Term>
double BlockedSum(int64_t n, Term term) {
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    sum += VectorSum<T>(std::min(kBlock, n - begin), [&](int64_t i) { return term(begin + i); });
  }
  return sum;
}

// Loss of one row, whose logits stay.
template <class T>
double RowLoss(int64_t n, const T* logits, int64_t target) {
  const T max = VectorMax<T>(n, [=](int64_t i) { return logits[i]; });
  const double sum = BlockedSum<T>(n, [=](int64_t i) { return FastExp(logits[i] - max); });
  return std::log(sum) + (static_cast<double>(max) - logits[target]);
}

// Loss of one row, whose logits become their gradient.
template <class T>
double RowLossAndGradient(int64_t n, T* logits, int64_t target, double grad_scale) {
  const T max = VectorMax<T>(n, [=](int64_t i) { return logits[i]; });
  const double max_minus_target = static_cast<double>(max) - logits[target];
  const double sum = BlockedSum<T>(n, [=](int64_t i) { return logits[i] = FastExp(logits[i] - max); });
  const T factor = grad_scale / sum;
  for (int64_t i = 0; i < n; ++i) logits[i] *= factor;
  logits[target] -= static_cast<T>(grad_scale);
  return std::log(sum) + max_minus_target;
}

}  // namespace

void CrossEntropy(Stream& stream, const Tensor& logits, const Tensor& targets, double grad_scale,
                  const Tensor& losses) {
  const int64_t rows = logits.rows(), vocabulary = logits.dim(1);
  CheckTensor("CrossEntropy logits", logits, logits.dtype, {rows, vocabulary});
  CheckTensor("CrossEntropy targets", targets, DType::kI32, {rows});
  CheckTensor("CrossEntropy losses", losses, DType::kF64, {rows});
  const bool with_gradient = grad_scale != 0;
  KernelScope scope(stream, Op::kCrossEntropy, (kFastExpFlops + 4) * logits.size(),
                    (with_gradient ? 2.0 : 1.0) * logits.bytes() + targets.bytes() + losses.bytes());
  DispatchFloat(logits.dtype, [&]<class T>() {
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t target = targets.as<int32_t>()[t];
      CHECK(target >= 0 && target < vocabulary)
          << "target " << target << " of a vocabulary of " << vocabulary;
      T* row = logits.as<T>() + t * vocabulary;
      losses.as<double>()[t] = with_gradient ? RowLossAndGradient(vocabulary, row, target, grad_scale)
                                             : RowLoss(vocabulary, row, target);
    }
  });
}

}  // namespace unipool
