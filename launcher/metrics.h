// What a run reports: RUN_DIR/metrics.jsonl for programs. One rank writes it. launcher/progress.h is for
// people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/buffer.h"

namespace unipool {

struct StepMetrics {
  int64_t step = 0;                 // 1 = the first optimizer update
  int64_t tokens = 0;               // trained on so far, over all ranks
  double loss = 0;                  // mean cross entropy of the step's tokens, nats
  double pool_loss = 0;             // balancing loss of whichever kind (moe.balance), with its coefficient
  double pool_loss_at_balance = 0;  // what it would be at perfect balance; 0: not known
  double max_violation = 0;         // largest expert load / mean - 1
  int dead_experts = 0;             // experts that no token chose in this step
  double zero_score_share = 0;      // share of token-layers without a positive score (DESIGN section 7)
  double grad_norm = 0;             // before clipping
  double lr = 0;
  double tokens_per_second = 0;
  double step_seconds = 0;
  int64_t pool_shares_age = -1;  // of the expert shares in the pool loss: steps (balance_scope STEP) or
                                 // microbatches; -1: none in force
  double balance_seconds = 0;    // rank 0 spent starting and awaiting the step's statistics, by its own clock
  int64_t peak_memory_bytes = 0;               // of the rank that has used the most so far
  int peak_memory_rank = 0;                    // which one that is
  MemoryParts peak_memory_by_kind{};           // its parts, which add up to peak_memory_bytes
  std::optional<double> slot_imbalance;        // largest / mean load of a rank over the step's slots
  std::optional<double> virtual_step_seconds;  // where a cluster is emulated

  // pool_loss / value at balance; not a number when that is not known.
  double PoolLossOverBalance() const;
};

// One JSON object a line, without the newline. Numbers read back bit for bit; what is not finite becomes
// null. Keys: step, tokens, loss, pool_loss, pool_loss_over_balance, max_violation, dead_experts,
// zero_score_share, grad_norm, lr, tokens_per_second, step_seconds, pool_shares_age, balance_seconds,
// peak_memory_bytes, peak_memory_rank, peak_memory {weights, gradients, optimizer, activations, exchange,
// scratch}; slot_imbalance where several ranks share a pool, virtual_step_seconds where a cluster is
// emulated; or step, valid_loss, valid_perplexity.
std::string StepLine(const StepMetrics& metrics);
std::string ValidationLine(int64_t step, double valid_loss);

class MetricsFile {
 public:
  // Opens RUN_DIR/metrics.jsonl for a run that continues after step `last_step` (0: from the beginning):
  // later lines and torn ones are cut, so that no step appears twice. Creates the folder. Throws UserError.
  MetricsFile(const std::string& run_dir, int64_t last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  // Appends a line in one write, so that readers see whole lines. Throws UserError (full disk).
  void Write(const std::string& line);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace unipool
