#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/check_tensor.h"
#include "kernels/cpu/fast_exp.h"
#include "kernels/cpu/vector_reduce.h"
#include "kernels/cuda/launchers.h"

namespace unipool {
namespace {

// Values summed in T before the sum goes on in double: a vocabulary of 50k loses no digits.
constexpr int64_t kBlock = 4096;

template <class T>
T Largest(int64_t n, const T* logits) {
  return VectorMax<T>(n, [=](auto at) { return at(logits); });
}

// Writes exp(logits - max) of at most kBlock logits, possibly over them, and returns the sum.
template <class T>
double ExpBlock(int64_t n, const T* logits, T max, T* exps) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) exps[i] = FastExp(logits[i] - max);
  return VectorSum<T>(n, [=](auto at) { return at(exps); });
}

// Loss of one row, whose logits stay.
template <class T>
double RowLoss(int64_t n, const T* logits, int64_t target) {
  const T max = Largest(n, logits);
  T exps[kBlock];
  double sum = 0;
  for (int64_t i = 0; i < n; i += kBlock) sum += ExpBlock(std::min(kBlock, n - i), logits + i, max, exps);
  return std::log(sum) + (static_cast<double>(max) - logits[target]);
}

// Loss of one row, whose logits become their gradient.
template <class T>
double RowLossAndGradient(int64_t n, T* logits, int64_t target, double grad_scale) {
  const T max = Largest(n, logits);
  const double max_minus_target = static_cast<double>(max) - logits[target];
  double sum = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    sum += ExpBlock(std::min(kBlock, n - i), logits + i, max, logits + i);
  }
  const T factor = static_cast<T>(grad_scale / sum);
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
  if (stream.device() == Device::kCuda) {
    return cuda::CrossEntropy(stream, logits, targets, grad_scale, losses);
  }
  DispatchFloat(logits.dtype, [&]<class T>() {
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t target = targets.as<int32_t>()[t];
      CHECK(target >= 0 && target < vocabulary)
          << "target " << target << " of a vocabulary of " << vocabulary;
      T* row = logits.as<T>() + t * vocabulary;
      losses.as<double>()[t] = with_gradient ? RowLossAndGradient(vocabulary, row, target, grad_scale)
                                             : RowLoss(vocabulary, row, target);
      PollPoint();
    }
  });
}

}  // namespace unipool
