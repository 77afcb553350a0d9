#include "models/layer_saved.h"

namespace unipool {

LayerSaved::LayerSaved(const ModelSpec& spec, int64_t tokens, const ExpertPlacement& placement, DType dtype,
                       const AttentionLayer::Saved* internals, DeviceContext* device, char* base)
    : spec_(spec),
      shadow_places_(placement.num_places() - placement.num_experts()),
      dtype_(dtype),
      base_(base),
      device_(device) {
  moe.handle.plan = SendPlan(placement);
  SetTokens(tokens, internals);
}

// The report's size is the same for any number of tokens; its place is not.
void LayerSaved::SetTokens(int64_t tokens, const AttentionLayer::Saved* internals) {
  if (internals) attention = *internals;
  Place(tokens, dtype_, internals == nullptr, base_);
  if (!device_) {
    report_ = report_begin();
  } else if (!report_) {
    report_ = static_cast<char*>(device_->AllocatePinned(report_bytes()));
    reported_ = device_->MakeEvent();
  }
  moe.report = {.router = {.score_sum = OnHost(moe.router.score_sum),
                           .counts = OnHost(moe.router.counts),
                           .num_off = OnHost(moe.router.num_off)},
                .rows_of_place = OnHost(moe.rows_of_place)};
}

LayerSaved::~LayerSaved() {
  if (device_) device_->FreePinned(report_);
}

int64_t LayerSaved::Bytes(const ModelSpec& spec, int64_t tokens, DType dtype, bool keeps_internals,
                          int64_t shadow_places) {
  return LayerSaved(spec, shadow_places).Place(tokens, dtype, keeps_internals, nullptr);
}

void LayerSaved::SendReport() {
  if (!device_) return;
  device_->Copy(DeviceQueue::kCompute, report_, report_begin(), report_bytes());
  device_->Record(reported_, DeviceQueue::kCompute);
}

void LayerSaved::WaitForReport(const ExchangeLabel& label) {
  if (device_) device_->WaitOnHost(reported_, label);
}

// The report's tensors lie one behind the other, so that one copy brings them to the host.
int64_t LayerSaved::report_bytes() const {
  const Tensor& last = moe.rows_of_place;
  return static_cast<char*>(last.data) + last.bytes() - report_begin();
}

Tensor LayerSaved::OnHost(Tensor tensor) const {
  tensor.data = report_ + (static_cast<char*>(tensor.data) - report_begin());
  return tensor;
}

// Lays all fields out from `base` on (which may be null) and returns the bytes they take. `h`, the boundary
// between the halves, belongs to the MoE half.
int64_t LayerSaved::Place(int64_t tokens, DType dtype, bool keeps_internals, char* base) {
  const int64_t d = spec_.hidden, m = spec_.experts, k = spec_.top_k;
  const DType exact = AccumulatorOf(dtype);
  int64_t bytes = 0;
  auto place = [&](Tensor& tensor, DType type, std::initializer_list<int64_t> shape) {
    tensor = Tensor(base ? base + bytes : nullptr, type, shape);
    bytes += (tensor.bytes() + 63) / 64 * 64;
  };
  place(attention.x, dtype, {tokens, d});
  if (keeps_internals) {
    char* const begin = base ? base + bytes : nullptr;
    bytes += AttentionLayer::PlaceInternals(spec_, tokens, dtype, begin, attention);
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
  moe.rows_of_place = moe.order.rows_of_expert;
  if (shadow_places_ > 0) place(moe.rows_of_place, DType::kI32, {m + shadow_places_});
  place(moe.y, dtype, {tokens * k, d});
  return bytes;
}

}  // namespace unipool
