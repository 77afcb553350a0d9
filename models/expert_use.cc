#include "models/expert_use.h"

namespace unipool {

ExpertUse::ExpertUse(const Config& config, const ModelSpec& spec, const BalanceOptions& options,
                     const Mesh& mesh, WaitClock& clock, DType dtype, Stream& stream, MemoryMeter& memory)
    : spec(spec),
      options(options),
      visibility(spec),
      visible(spec, dtype, stream, memory),
      statistics(spec, options.counts),
      shares(spec, options, mesh, clock),
      loss(spec, options, shares, dtype, stream, memory),
      bias(spec, options, dtype, stream, memory),
      importance(spec, stream, memory),
      history(spec) {
  if (!HasLock(config)) return;
  lock.emplace(config, spec, options);
  loss.SetEntropyLoss(&lock->entropy());
}

void ExpertUse::VisibilityChanged() {
  visible.Send(visibility);
  statistics.SetVisibility(visibility);
  loss.SetVisibility(visibility);
  bias.SetVisibility(visibility);
}

void ExpertUse::SetStep(int64_t step) {
  if (lock && lock->SetStep(step, visibility)) VisibilityChanged();
}

void ExpertUse::BeginStep(int64_t step) {
  SetStep(step);
  if (lock) lock->BeginStep(step);
  statistics.BeginStep();
  shares.BeginStep(step);
  loss.BeginStep();
  importance.BeginStep();
}

void ExpertUse::EndMicrobatch(int64_t microbatch) {
  shares.EndMicrobatch(microbatch, statistics.microbatch_counts());
  statistics.EndMicrobatch();
}

void ExpertUse::AddTo(StepSums& sums) const {
  statistics.AddTo(sums);
  loss.AddTo(sums);
  if (lock) lock->AddTo(sums);
}

LoadReport ExpertUse::EndStep(const StepSums& sums) {
  statistics.EndStep(sums);
  const bool has_shares = options.balance == Balance::POOL_LOSS && shares.exist();
  LoadReport report{
      .pool_loss = sums.pool_loss,
      .pool_loss_at_balance = sums.pool_loss_at_balance,
      .max_violation = statistics.MaxViolation(),
      .dead_experts = statistics.NumDeadExperts(),
      .zero_score_share = sums.zero_tokens / static_cast<double>(spec.layers * options.tokens_per_step()),
      .tie_share = statistics.TieShare(),
      .shares_age = has_shares ? shares.age() : -1};
  if (lock) report.lock = lock->EndStep(sums);
  const bool is_skipped = !sums.AreFinite();
  if (!is_skipped) history.AddStep(sums.importance, statistics.step_counts());
  if (history.exists()) report.effective_experts = history.EffectiveExperts();
  if (is_skipped) {
    shares.CancelStep();
    return report;
  }
  bias.Update(statistics.balanced_counts());
  shares.EndStep(statistics.balanced_group_counts());
  return report;
}

}  // namespace unipool
