// What a training step gave, for tests of what is told of it.
#pragma once

#include "launcher/reports/metric_list.h"

namespace unipool {

// A step with a value of its own for each metric.
inline StepOutcome ExampleOutcome(int64_t step) {
  StepOutcome outcome{.step = step, .tokens = step * 4096, .step_tokens = 24690, .lr = 3e-4, .seconds = 2};
  outcome.report.loss = 2.5;
  outcome.report.grad_norm = 0.5;
  outcome.report.load = {
      .pool_loss = 0.16,
      .pool_loss_at_balance = 0.125,
      .max_violation = 1.5,
      .dead_experts = 3,
      .zero_score_share = 0.125,
      .tie_share = 0.1875,
      .effective_experts = 6.5,
      .shares_age = 1,
      .lock = LockReport{.stage = LockStage::kAnneal, .anneal = 0.625, .entropy = 1.25, .off_mask_rows = 77},
      .seconds = 0.25};
  outcome.report.memory = {.rank = 3,
                           .bytes = {600'000, 700'000, 800'000, 0, 0, 0},
                           .rows = {.stashed = 11, .joined = 12, .batch = 13, .banked = 14}};
  outcome.report.traffic = TrafficStep{.wire_bytes = 1000,
                                       .wire_bytes_inter = 400,
                                       .blocked_ms = 30,
                                       .idle_ms = 20,
                                       .exposed_ms = 10,
                                       .hidden_share = 0.75,
                                       .waited_for_rank = 6,
                                       .waited_for_share = 0.5,
                                       .receive_imbalance = 1.5,
                                       .receive_imbalance_p95 = 1.75,
                                       .most_rows_received = 96};
  return outcome;
}

}  // namespace unipool
