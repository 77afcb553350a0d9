#include "kernels/router_forward.h"

#include <algorithm>

#include "kernels/check_tensor.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/scratch.h"
#include "kernels/gemm.h"

namespace unipool {
namespace {

void CheckRouter(const RouterScoreSpec& spec, const RouterInputs& in, const RouterOutputs& out) {
  const int64_t num_tokens = in.x.rows(), width = in.x.dim(1), num_experts = in.weight.rows();
  const int64_t top_k = out.experts.dim(1);
  const DType dtype = in.x.dtype, accumulator = AccumulatorOf(dtype);
  CheckTensor("RouterForward x", in.x, dtype, {num_tokens, width});
  CheckTensor("RouterForward weight", in.weight, dtype, {num_experts, width});
  if (!in.weight_low.empty()) {
    CheckTensor("RouterForward weight_low", in.weight_low, dtype, {num_experts, width});
  }
  if (HasSigma(spec.kind)) CheckTensor("RouterForward sigma", in.sigma, accumulator, {1});
  if (!in.bias.empty()) CheckTensor("RouterForward bias", in.bias, accumulator, {num_experts});
  CheckTensor("RouterForward visible", in.visible, accumulator, {num_experts});
  if (!spec.attenuation.empty()) {
    CheckTensor("RouterForward attenuation", spec.attenuation, accumulator, {num_experts});
  }
  CheckTensor("RouterForward logits", out.logits, accumulator, {num_tokens, num_experts});
  CheckTensor("RouterForward scores", out.scores, accumulator, {num_tokens, num_experts});
  CheckTensor("RouterForward score_sum", out.score_sum, DType::kF64, {num_experts});
  CheckTensor("RouterForward experts", out.experts, DType::kI32, {num_tokens, top_k});
  CheckTensor("RouterForward weights", out.weights, accumulator, {num_tokens, top_k});
  CheckTensor("RouterForward counts", out.counts, DType::kI64, {num_experts});
  CheckTensor("RouterForward num_off", out.num_off, DType::kI64, {1});
}

}  // namespace

int64_t RouterForwardScratchBytes(Device device, DType dtype, int64_t num_tokens, int64_t num_experts) {
  if (device == Device::kCuda) {
    return cuda::CeilDiv(num_tokens, cuda::kRouterTokens) * num_experts * int64_t{sizeof(float)};
  }
  return std::max(RouterScoresForwardScratchBytes(AccumulatorOf(dtype), num_experts),
                  TopKScratchBytes(AccumulatorOf(dtype), num_experts));
}

void RouterForward(Stream& stream, const RouterScoreSpec& spec, const RouterInputs& in,
                   const RouterOutputs& out) {
  CheckRouter(spec, in, out);
  if (stream.device() == Device::kCuda) {
    const double products = in.weight_low.empty() ? 1 : 2;
    KernelScope scope(stream, Op::kRouter, products * 2.0 * in.x.size() * in.weight.rows(),
                      in.x.bytes() + in.weight.bytes() + out.logits.bytes() + out.scores.bytes() +
                          out.experts.bytes() + out.weights.bytes());
    return cuda::RouterForward(stream, spec, in, out);
  }
  Gemm(stream, Trans::kNo, in.x, Trans::kYes, in.weight, 0, out.logits);
  if (!in.weight_low.empty()) Gemm(stream, Trans::kNo, in.x, Trans::kYes, in.weight_low, 1, out.logits);
  RouterScoresForward(stream, spec, out.logits, in.sigma, in.visible, out.scores, out.score_sum);
  const Tensor& choosable = spec.attenuation.empty() ? in.visible : spec.attenuation;
  out.num_off.as<int64_t>()[0] +=
      TopK(stream, out.scores, {in.bias, in.bias_reach}, choosable, out.experts, out.weights, out.counts);
}

}  // namespace unipool
