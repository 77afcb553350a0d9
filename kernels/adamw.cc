#include "kernels/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/check_tensor.h"
#include "kernels/cpu/bf16_bits.h"
#include "kernels/cuda/launchers.h"
#include "kernels/reduce.h"

namespace unipool {
namespace {

// The step's factors, computed once in double.
template <class T>
struct Factors {
  explicit Factors(const AdamWArgs& args)
      : beta1(args.beta1),
        one_minus_beta1(1 - args.beta1),
        beta2(args.beta2),
        one_minus_beta2(1 - args.beta2),
        m_correction(1 / (1 - std::pow(args.beta1, args.step))),
        v_correction(1 / (1 - std::pow(args.beta2, args.step))),
        lr(args.lr),
        eps(args.eps),
        weight_decay(args.weight_decay) {}
  T beta1, one_minus_beta1, beta2, one_minus_beta2, m_correction, v_correction, lr, eps, weight_decay;
};

template <class T, class Grad>
void Update(const AdamWArgs& args, int64_t n, T* p, T* m, T* v, Grad grad) {
  const Factors<T> f(args);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T g = grad(i);
    const T new_m = f.beta1 * m[i] + f.one_minus_beta1 * g;
    const T new_v = f.beta2 * v[i] + f.one_minus_beta2 * (g * g);
    const T direction = new_m * f.m_correction / (std::sqrt(new_v * f.v_correction) + f.eps);
    m[i] = new_m;
    v[i] = new_v;
    p[i] -= f.lr * (direction + f.weight_decay * p[i]);
  }
}

bool AllFinite(const Tensor& numbers) {
  if (numbers.empty()) return true;
  const double* begin = numbers.as<double>();
  return std::all_of(begin, begin + numbers.size(), [](double x) { return std::isfinite(x); });
}

double GradScale(const AdamWArgs& args) {
  if (args.max_grad_norm <= 0) return args.grad_scale;
  const double norm = std::abs(args.grad_scale) * std::sqrt(*args.grad_squares.as<double>());
  return norm > args.max_grad_norm ? args.grad_scale * (args.max_grad_norm / norm) : args.grad_scale;
}

void Check(const Stream& stream, const AdamWArgs& args, const AdamWTensors& t) {
  const bool on_cuda = stream.device() == Device::kCuda;
  CHECK_GE(args.step, 1) << "AdamW counts steps from 1";
  if (args.max_grad_norm > 0) CheckTensor("AdamW grad_squares", args.grad_squares, DType::kF64, {1});
  if (!args.finite.empty()) CheckTensor("AdamW finite", args.finite, DType::kF64, {args.finite.rows()});
  CHECK(!on_cuda || t.param.dtype == DType::kF32) << "AdamW on CUDA: param is " << NameOf(t.param.dtype);
  CheckSameSize("AdamW m", t.m, t.param);
  CheckSameSize("AdamW v", t.v, t.param);
  Tensor grad = t.param, copy = t.param;
  if (on_cuda) grad.dtype = t.grad.dtype;
  if (on_cuda || t.copy.dtype == DType::kBF16) copy.dtype = t.copy.dtype;
  if (!t.grad.empty()) CheckSameSize("AdamW grad", t.grad, grad);
  if (!t.copy.empty()) CheckSameSize("AdamW copy", t.copy, copy);
}

// Elements [begin, end).
void UpdateElements(const AdamWArgs& args, const AdamWTensors& t, int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  DispatchFloat(t.param.dtype, [&]<class T>() {
    T *p = t.param.as<T>() + begin, *m = t.m.as<T>() + begin, *v = t.v.as<T>() + begin;
    if (t.grad.empty()) return Update(args, n, p, m, v, [](int64_t) { return T(0); });
    const T* g = t.grad.as<T>() + begin;
    const T scale = GradScale(args);
    Update(args, n, p, m, v, [=](int64_t i) { return scale * g[i]; });
  });
}

// BF16 copies are written piece by piece, while the new numbers are in the caches.
void CpuAdamW(const AdamWArgs& args, const AdamWTensors& t) {
  constexpr int64_t kPiece = 1 << 15;
  const int64_t n = t.param.size();
  if (t.copy.dtype != DType::kBF16 || t.copy.empty()) return UpdateElements(args, t, 0, n);
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = std::min(n, begin + kPiece);
    UpdateElements(args, t, begin, end);
    RoundToBf16(t.param.as<float>() + begin, end - begin, static_cast<uint16_t*>(t.copy.data) + begin);
  }
}

}  // namespace

void AdamW(Stream& stream, const AdamWArgs& args, const Tensor& param, const Tensor& grad, const Tensor& m,
           const Tensor& v) {
  const AdamWTensors tensors = {.param = param, .grad = grad, .m = m, .v = v};
  AdamWGroup(stream, args, {&tensors, 1});
}

void AdamWGroup(Stream& stream, const AdamWArgs& args, std::span<const AdamWTensors> group) {
  const bool on_cuda = stream.device() == Device::kCuda;
  double elements = 0, bytes = 0;
  for (const AdamWTensors& tensors : group) {
    Check(stream, args, tensors);
    elements += tensors.param.size();
    bytes += 6.0 * tensors.param.bytes();
    if (!tensors.grad.empty()) bytes += tensors.grad.bytes();
    if (!tensors.copy.empty() && (on_cuda || tensors.copy.dtype == DType::kBF16))
      bytes += tensors.copy.bytes();
  }
  {
    KernelScope scope(stream, Op::kOptimizer, 16 * elements, bytes);
    if (on_cuda) return cuda::AdamWGroup(stream, args, group);
    if (!AllFinite(args.finite)) return;
    for (const AdamWTensors& tensors : group) {
      CpuAdamW(args, tensors);
      PollPoint();
    }
  }
  for (const AdamWTensors& tensors : group) {
    if (!tensors.copy.empty() && tensors.copy.dtype != DType::kBF16)
      Copy(stream, tensors.param, tensors.copy);
  }
}

}  // namespace unipool
