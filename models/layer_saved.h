// What one (microbatch, layer) keeps from its forward until its backward, in one piece of memory.
#pragma once

#include "models/language_model.h"

namespace unipool {

struct LanguageModel::LayerSaved {
  AttentionLayer::Saved attention;
  MoeLayer::Saved moe;
  // On a device, where the host reads the report (pinned), and the event behind its copy.
  DeviceContext* device = nullptr;
  char* report = nullptr;
  DeviceContext::Event reported = -1;

  // `internals`: where all layers have attention's fields but x, if they recompute them; null: kept here.
  // `base` has SavedBytes of memory, which outlive it.
  LayerSaved(const ModelSpec& spec, int64_t tokens, const ExpertPlacement& placement, DType dtype,
             const AttentionLayer::Saved* internals, DeviceContext* device, char* base)
      : device(device) {
    if (internals) attention = *internals;
    Place(spec, tokens, dtype, internals == nullptr, base);
    moe.handle.plan = SendPlan(placement);
    report = report_begin();
    if (device) {
      report = static_cast<char*>(device->AllocatePinned(report_bytes()));
      reported = device->MakeEvent();
    }
    moe.report = {.router = {.score_sum = InReport(moe.router.score_sum),
                             .counts = InReport(moe.router.counts),
                             .num_off = InReport(moe.router.num_off)},
                  .rows_of_expert = InReport(moe.order.rows_of_expert)};
  }
  LayerSaved() = default;
  LayerSaved(const LayerSaved&) = delete;
  ~LayerSaved() {
    if (device) device->FreePinned(report);
  }

  // The report's tensors lie one behind the other, so that one copy brings them to the host.
  char* report_begin() const { return static_cast<char*>(moe.router.score_sum.data); }
  int64_t report_bytes() const {
    const Tensor& last = moe.order.rows_of_expert;
    return static_cast<char*>(last.data) + last.bytes() - report_begin();
  }
  Tensor InReport(Tensor tensor) const {
    tensor.data = report + (static_cast<char*>(tensor.data) - report_begin());
    return tensor;
  }
  // Enqueues the copy; the host may read the report after WaitForReport.
  void SendReport() {
    if (!device) return;
    device->Copy(DeviceQueue::kCompute, report, report_begin(), report_bytes());
    device->Record(reported, DeviceQueue::kCompute);
  }
  void WaitForReport(const ExchangeLabel& label) {
    if (device) device->WaitOnHost(reported, label);
  }

  // Lays all fields (attention's but x only if it keeps them) out from `base` on and returns the bytes they
  // take. `h`, the boundary between the halves, belongs to the MoE half.
  int64_t Place(const ModelSpec& spec, int64_t tokens, DType dtype, bool keeps_internals, char* base) {
    const int64_t d = spec.hidden, m = spec.experts, k = spec.top_k;
    const DType exact = AccumulatorOf(dtype);
    int64_t bytes = 0;
    auto place = [&](Tensor& tensor, DType type, std::initializer_list<int64_t> shape) {
      tensor = Tensor(base ? base + bytes : nullptr, type, shape);
      bytes += (tensor.bytes() + 63) / 64 * 64;
    };
    place(attention.x, dtype, {tokens, d});
    if (keeps_internals) {
      char* const begin = base ? base + bytes : nullptr;
      bytes += AttentionLayer::PlaceInternals(spec, tokens, dtype, begin, attention);
    }
    place(moe.h, dtype, {tokens, d});
    place(moe.inv_rms, exact, {tokens});
    place(moe.normed, dtype, {tokens, d});
    place(moe.router.logits, exact, {tokens, m});
    place(moe.router.scores, exact, {tokens, m});
    place(moe.router.experts, DType::kI32, {tokens, k});
    place(moe.router.weights, exact, {tokens, k});
    place(moe.order.row_of, DType::kI32, {tokens, k});
    place(moe.order.token_of, DType::kI32, {tokens * k});
    const int64_t sums_begin = bytes;
    place(moe.router.score_sum, DType::kF64, {m});
    place(moe.router.counts, DType::kI64, {m});
    place(moe.router.num_off, DType::kI64, {1});
    moe.router.sums = Tensor(moe.router.score_sum.data, DType::kI32, {(bytes - sums_begin) / 4});
    place(moe.order.rows_of_expert, DType::kI32, {m});
    place(moe.y, dtype, {tokens * k, d});
    return bytes;
  }
};

}  // namespace unipool
