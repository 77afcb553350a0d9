// What one (microbatch, layer) keeps from its forward until its backward, in one piece of memory.
#pragma once

#include "models/attention_layer.h"
#include "models/moe_layer.h"
#include "runtime/device_context.h"

namespace unipool {

struct LayerSaved {
  AttentionLayer::Saved attention;
  MoeLayer::Saved moe;

  // Fields in `base`, which has Bytes() of memory and outlives it. `internals` is memory that all layers
  // share: the fields of attention that a recomputation fills again (all but x). null: this layer has its
  // own.
  LayerSaved(const ModelSpec& spec, int64_t tokens, const ExpertPlacement& placement, DType dtype,
             const AttentionLayer::Saved* internals, DeviceContext* device, char* base);
  ~LayerSaved();
  LayerSaved(const LayerSaved&) = delete;

  // The fields are for so many tokens from now on, in the same memory. REQUIRES: at most those of the
  // constructor.
  void SetTokens(int64_t tokens, const AttentionLayer::Saved* internals);

  // Bytes that one layer keeps of a microbatch of `tokens` tokens. shadow_places: P - M of the placement.
  static int64_t Bytes(const ModelSpec& spec, int64_t tokens, DType dtype, bool keeps_internals,
                       int64_t shadow_places = 0);

  // Enqueues the copy of the report to the host, which may read moe.report after WaitForReport.
  void SendReport();
  // `label` says what the host waits for.
  void WaitForReport(const ExchangeLabel& label);

 private:
  LayerSaved(const ModelSpec& spec, int64_t shadow_places) : spec_(spec), shadow_places_(shadow_places) {}
  int64_t Place(int64_t tokens, DType dtype, bool keeps_internals, char* base);
  char* report_begin() const { return static_cast<char*>(moe.router.score_sum.data); }
  int64_t report_bytes() const;
  Tensor OnHost(Tensor tensor) const;

  const ModelSpec& spec_;
  int64_t shadow_places_;
  DType dtype_ = DType::kF32;
  char* base_ = nullptr;
  DeviceContext* device_ = nullptr;
  char* report_ = nullptr;  // on a device pinned, where the host reads the report
  DeviceContext::Event reported_ = -1;
};

}  // namespace unipool
