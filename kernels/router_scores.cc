#include "kernels/router_scores.h"

#include "kernels/check_tensor.h"
#include "kernels/cpu/router_kinds.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/scratch.h"

namespace unipool {
namespace {

template <class T>
Router<T> MakeRouter(const RouterScoreSpec& spec, const Tensor& sigma, const Tensor& visible) {
  Router<T> router = {spec.kind, visible.rows(), T(0), visible.as<T>(), nullptr};
  if (HasSigma(spec.kind)) router.scale = static_cast<T>(spec.constant * sigma.as<T>()[0]);
  if (!spec.attenuation.empty()) router.attenuation = spec.attenuation.as<T>();
  return router;
}

template <class T>
void AddImportance(const T* scores, const ScoreGrad<T>& grad, double* importance) {
  for (int64_t k = 0; k < grad.top_k; ++k) {
    const int64_t i = grad.experts[k];
    importance[i] += static_cast<double>(scores[i]) * grad.dchosen[k];
  }
}

template <class T>
void CheckExperts(int64_t num_experts, const ScoreGrad<T>& grad) {
  for (int64_t k = 0; k < grad.top_k; ++k) {
    CHECK(grad.experts[k] >= 0 && grad.experts[k] < num_experts)
        << "expert " << grad.experts[k] << " of " << num_experts;
  }
}

void CheckAttenuation(const char* name, const RouterScoreSpec& spec, DType dtype, int64_t num_experts) {
  if (!spec.attenuation.empty()) CheckTensor(name, spec.attenuation, dtype, {num_experts});
}

// Gradients of attenuated scores become those of the scores before. Where the gradient is computed from the
// scores, these are made again.
template <class T>
class Unattenuated {
 public:
  // Scratch memory of 3 * M numbers.
  Unattenuated(const RouterScoreSpec& spec, int64_t num_experts, const T* aux, T* scratch)
      : attenuation_(spec.kind == RouterKind::kSoftmax || spec.attenuation.empty()
                         ? nullptr
                         : spec.attenuation.as<T>()),
        num_experts_(num_experts),
        aux_(scratch),
        dchosen_(scratch + num_experts),
        scores_(scratch + 2 * num_experts) {
    if (!attenuation_) return;
    for (int64_t i = 0; i < num_experts; ++i) aux_[i] = attenuation_[i] * aux[i];
  }
  ScoreGrad<T> Of(const ScoreGrad<T>& grad) const {
    if (!attenuation_) return grad;
    for (int64_t k = 0; k < grad.top_k; ++k) dchosen_[k] = attenuation_[grad.experts[k]] * grad.dchosen[k];
    return {aux_, grad.top_k, grad.experts, dchosen_};
  }
  const T* ScoresOf(const T* scores) const {
    if (!attenuation_) return scores;
    for (int64_t i = 0; i < num_experts_; ++i)
      scores_[i] = attenuation_[i] > 0 ? scores[i] / attenuation_[i] : T(0);
    return scores_;
  }

 private:
  const T* attenuation_;
  int64_t num_experts_;
  T *aux_, *dchosen_, *scores_;
};

void CheckBackward(RouterKind kind, const Tensor& logits, const Tensor& sigma, const Tensor& visible,
                   const Tensor& scores, const RouterScoreGrads& grads) {
  const int64_t num_tokens = logits.rows(), num_experts = logits.dim(1), top_k = grads.experts.dim(1);
  const DType dtype = logits.dtype;
  CheckTensor("RouterScoresBackward logits", logits, dtype, {num_tokens, num_experts});
  if (HasSigma(kind)) {
    CheckTensor("RouterScoresBackward sigma", sigma, dtype, {1});
    CheckTensor("RouterScoresBackward dsigma", grads.dsigma, dtype, {1});
  }
  CheckTensor("RouterScoresBackward visible", visible, dtype, {num_experts});
  CheckTensor("RouterScoresBackward scores", scores, dtype, {num_tokens, num_experts});
  CheckTensor("RouterScoresBackward experts", grads.experts, DType::kI32, {num_tokens, top_k});
  CheckTensor("RouterScoresBackward dchosen", grads.dchosen, dtype, {num_tokens, top_k});
  CheckTensor("RouterScoresBackward aux", grads.aux, dtype, {num_experts});
  CheckTensor("RouterScoresBackward dlogits", grads.dlogits, dtype, {num_tokens, num_experts});
  if (!grads.importance.empty()) {
    CheckTensor("RouterScoresBackward importance", grads.importance, DType::kF64, {num_experts});
  }
}

}  // namespace

int64_t RouterScoresForwardScratchBytes(DType dtype, int64_t num_experts) {
  return num_experts * SizeOf(dtype);
}

int64_t RouterScoresBackwardScratchBytes(Device device, int64_t num_tokens, int64_t num_experts) {
  if (device != Device::kCuda) return 3 * num_experts * int64_t{sizeof(double)};
  return cuda::CeilDiv(num_tokens, cuda::kRouterTokens) *
         (int64_t{sizeof(double)} + num_experts * int64_t{sizeof(float)});
}

void RouterScoresForward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                         const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                         const Tensor& score_sum) {
  CHECK(stream.device() == Device::kCpu)
      << "RouterScoresForward has no CUDA kernel of its own: RouterForward contains it";
  const int64_t num_tokens = logits.rows(), num_experts = logits.dim(1);
  CheckTensor("RouterScoresForward logits", logits, logits.dtype, {num_tokens, num_experts});
  if (HasSigma(spec.kind)) CheckTensor("RouterScoresForward sigma", sigma, logits.dtype, {1});
  CheckTensor("RouterScoresForward visible", visible, logits.dtype, {num_experts});
  CheckTensor("RouterScoresForward scores", scores, logits.dtype, {num_tokens, num_experts});
  CheckTensor("RouterScoresForward score_sum", score_sum, DType::kF64, {num_experts});
  CheckAttenuation("RouterScoresForward attenuation", spec, logits.dtype, num_experts);
  KernelScope scope(stream, Op::kRouter, FlopsPerScore(spec.kind) * logits.size(),
                    2.0 * logits.bytes() + visible.bytes() + 2.0 * score_sum.bytes());
  DispatchFloat(logits.dtype, [&]<class T>() {
    Router<T> router = MakeRouter<T>(spec, sigma, visible);
    router.offsets = ScoreOffsets<T>(spec.kind, visible, router.attenuation, stream);
    double* sum = score_sum.as<double>();
    for (int64_t t = 0; t < num_tokens; ++t) {
      T* row = scores.as<T>() + t * num_experts;
      ScoreRow(router, logits.as<T>() + t * num_experts, row);
      for (int64_t i = 0; i < num_experts; ++i) sum[i] += row[i];
    }
  });
}

void RouterScoresBackward(Stream& stream, const RouterScoreSpec& spec, const Tensor& logits,
                          const Tensor& sigma, const Tensor& visible, const Tensor& scores,
                          const RouterScoreGrads& grads) {
  CheckBackward(spec.kind, logits, sigma, visible, scores, grads);
  CheckAttenuation("RouterScoresBackward attenuation", spec, logits.dtype, logits.dim(1));
  const int64_t num_tokens = logits.rows(), num_experts = logits.dim(1), top_k = grads.experts.dim(1);
  const double read_per_row = FactsOf(spec.kind).gradient_reads_logits ? logits.bytes() : scores.bytes();
  KernelScope scope(stream, Op::kRouter, 12.0 * logits.size(),
                    read_per_row + grads.dlogits.bytes() + visible.bytes() + grads.aux.bytes() +
                        grads.experts.bytes() + grads.dchosen.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::RouterScoresBackward(stream, spec, logits, sigma, visible, scores, grads);
  }
  DispatchFloat(logits.dtype, [&]<class T>() {
    const Router<T> router = MakeRouter<T>(spec, sigma, visible);
    T* scratch = nullptr;
    if (router.attenuation) {
      CHECK_LE(top_k, num_experts);
      scratch = static_cast<T*>(
          stream.Scratch(RouterScoresBackwardScratchBytes(Device::kCpu, num_tokens, num_experts)));
    }
    const Unattenuated<T> unattenuated(spec, num_experts, grads.aux.as<T>(), scratch);
    double dscale = 0;
    for (int64_t t = 0; t < num_tokens; ++t) {
      const int64_t at = t * num_experts, chosen = t * top_k;
      const ScoreGrad<T> grad = {grads.aux.as<T>(), top_k, grads.experts.as<int32_t>() + chosen,
                                 grads.dchosen.as<T>() + chosen};
      CheckExperts(num_experts, grad);
      const T* s = scores.as<T>() + at;
      dscale += RowGradient(router, logits.as<T>() + at, unattenuated.ScoresOf(s), unattenuated.Of(grad),
                            grads.dlogits.as<T>() + at);
      if (!grads.importance.empty()) AddImportance(s, grad, grads.importance.as<double>());
    }
    if (HasSigma(spec.kind)) grads.dsigma.as<T>()[0] += static_cast<T>(dscale * spec.constant);
  });
}

}  // namespace unipool
