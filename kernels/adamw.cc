#include "kernels/adamw.h"

#include <cmath>

#include "kernels/check_tensor.h"

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

}  // namespace

void AdamW(Stream& stream, const AdamWArgs& args, const Tensor& param, const Tensor& grad, const Tensor& m,
           const Tensor& v) {
  CHECK_GE(args.step, 1) << "AdamW counts steps from 1";
  CheckSameSize("AdamW m", m, param);
  CheckSameSize("AdamW v", v, param);
  if (!grad.empty()) CheckSameSize("AdamW grad", grad, param);
  const int64_t n = param.size();
  KernelScope scope(stream, Op::kOptimizer, 16.0 * n, (grad.empty() ? 6.0 : 7.0) * param.bytes());
  DispatchFloat(param.dtype, [&]<class T>() {
    if (grad.empty()) {
      Update(args, n, param.as<T>(), m.as<T>(), v.as<T>(), [](int64_t) { return T(0); });
    } else {
      const T* g = grad.as<T>();
      const T scale = args.grad_scale;
      Update(args, n, param.as<T>(), m.as<T>(), v.as<T>(), [=](int64_t i) { return scale * g[i]; });
    }
  });
}

}  // namespace unipool
