#include "models/lock/pool_lock.h"

#include <algorithm>
#include <cmath>

#include "runtime/errors.h"

namespace unipool {
namespace {

// Places in the tensor lock.numbers.
enum Number {
  kVersion,
  kFreeze,
  kLock,
  kObserved,
  kSnapshots,
  kHasReference,
  kReference,
  kNumAbove,
  kNumNumbers
};
constexpr double kPresentVersion = 1;

}  // namespace

PoolLock::PoolLock(const Config& config, const ModelSpec& spec, const BalanceOptions& options)
    : config_(config.moe().lock()),
      counted_(options.counts),
      seed_(config.train().seed()),
      spec_(spec),
      plan_(LockPlanOf(config)),
      entropy_(spec, options, config_.entropy_target()),
      history_(config_.ema_window(), config_.ema_alpha(), spec.layers * spec.experts),
      guard_(config_.guard_excess(), config_.guard_consecutive()),
      owners_(spec.experts, -1),
      choices_(spec.layers * spec.experts + 1),
      numbers_(kNumNumbers) {
  if (plan_.freeze_step > 0) return;
  const OwnerAssignment drawn = Decide();
  owners_.assign(drawn.owner.begin(), drawn.owner.end());
}

OwnerAssignment PoolLock::Decide() {
  const std::vector<double> smoothed = history_.Smoothed();
  std::vector<int64_t> counts(smoothed.size());
  std::transform(smoothed.begin(), smoothed.end(), counts.begin(),
                 [](double c) { return std::llround(c * 1024); });
  const AssignmentOptions options{.layers = static_cast<int>(spec_.layers),
                                  .experts = static_cast<int>(spec_.experts),
                                  .coverage = config_.coverage()};
  if (config_.assignment() == LockConfig::RANDOM) return DrawOwners(seed_, counts, options);
  return AssignOwners(counts, options);
}

bool PoolLock::SetStep(int64_t step, Visibility& visibility) {
  step_ = step;
  const auto others = static_cast<float>(1 - plan_.AnnealAt(step));
  bool has_changed = false;
  for (int layer = 0; layer < spec_.layers; ++layer) {
    std::vector<float> factors(spec_.experts, 1.f);
    for (int64_t i = 0; i < spec_.experts; ++i) {
      if (has_owners() && owners_[i] != layer) factors[i] = others;
    }
    const std::span<const float> present = visibility.of(layer);
    if (std::equal(factors.begin(), factors.end(), present.begin())) continue;
    visibility.Set(layer, factors);
    has_changed = true;
  }
  return has_changed;
}

void PoolLock::BeginStep(int64_t step) {
  CHECK(step < plan_.freeze_step || has_owners())
      << "step " << step << ": no validation after step " << plan_.freeze_step << " has decided on owners";
  entropy_.BeginStep(config_.entropy_coeff() * plan_.WarmupAt(step));
}

LockReport PoolLock::EndStep(const StepSums& sums) {
  entropy_.EndStep(sums);
  LockReport report{.stage = stage(), .anneal = plan_.AnnealAt(step_), .entropy = entropy_.entropy()};
  if (report.stage == LockStage::kFull || !has_owners()) return report;
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    for (int64_t i = 0; i < spec_.experts; ++i) {
      const int64_t at = layer * spec_.experts + i;
      if (owners_[i] != layer) report.off_mask_rows += std::llround(sums.counts[at] + sums.ties[at]);
    }
  }
  CHECK(report.stage != LockStage::kLocked || report.off_mask_rows == 0)
      << report.off_mask_rows << " rows went to experts of other layers, after the lock";
  return report;
}

void PoolLock::BeginValidation() {
  is_counting_ = true;
  std::fill(choices_.begin(), choices_.end(), 0.0);
}

void PoolLock::AddChoices(int64_t microbatch, int layer, const LayerChoices& choices) {
  if (!is_counting_ || microbatch >= num_whole_) return;
  const auto* counts = choices.Counted(counted_).as<int64_t>();
  double* sums = choices_.data() + layer * spec_.experts;
  for (int64_t i = 0; i < spec_.experts; ++i) sums[i] += static_cast<double>(counts[i]);
  ++choices_.back();
}

std::vector<double> PoolLock::SumChoices(Communicator& world) {
  std::vector<double> choices = choices_;
  const auto size = static_cast<int64_t>(choices.size());
  world.AllReduceSum(Tensor(choices.data(), DType::kF64, {size}), {.operation = "choices of a validation"});
  if (choices.back() == 0) {
    throw UserError(
        "moe.lock: the validation has fewer sequences than train.micro_batch, so none of its choices can be "
        "counted alike in all layouts; give it more data or make train.micro_batch smaller");
  }
  choices.pop_back();
  return choices;
}

double PoolLock::LeastCoverage(const std::vector<double>& choices) const {
  double least = 1;
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    double own = 0, all = 0;
    for (int64_t i = 0; i < spec_.experts; ++i) {
      const double count = choices[layer * spec_.experts + i];
      all += count;
      own += owners_[i] == layer ? count : 0;
    }
    least = std::min(least, all > 0 ? own / all : 1);
  }
  return least;
}

void PoolLock::CheckAlike(Communicator& world) const {
  std::string own;
  for (const int32_t owner : owners_) own += std::to_string(owner) + " ";
  for (const std::string& other : world.AllGatherText(own, {.operation = "owners of experts"}))
    CHECK_EQ(other, own) << "ranks have decided differently on the owners of experts";
}

LockObservation PoolLock::EndValidation(int64_t step, double loss, Communicator& world) {
  is_counting_ = false;
  const std::vector<double> choices = SumChoices(world);
  const bool is_new = step > observed_step_;
  LockObservation seen;
  if (is_new && step <= plan_.freeze_step) history_.Add(choices);
  if (is_new && step == plan_.freeze_step) {
    seen.decided = Decide();
    owners_.assign(seen.decided->owner.begin(), seen.decided->owner.end());
    CheckAlike(world);
    guard_.SetReference(loss);
  }
  if (is_new && step >= plan_.lock_step) history_.Clear();
  if (is_new && step > plan_.freeze_step && guard_.state().has_reference)
    seen.is_too_high = guard_.IsTooHigh(loss);
  observed_step_ = std::max(observed_step_, step);
  if (step < plan_.freeze_step || !has_owners()) return seen;
  seen.coverage_min = LeastCoverage(choices);
  if (guard_.state().has_reference) seen.guard_excess = guard_.ExcessOf(loss);
  return seen;
}

void PoolLock::KeepNumbers() {
  numbers_[kVersion] = kPresentVersion;
  numbers_[kFreeze] = static_cast<double>(plan_.freeze_step);
  numbers_[kLock] = static_cast<double>(plan_.lock_step);
  numbers_[kObserved] = static_cast<double>(observed_step_);
  numbers_[kSnapshots] = history_.num();
  numbers_[kHasReference] = guard_.state().has_reference ? 1 : 0;
  numbers_[kReference] = guard_.state().reference;
  numbers_[kNumAbove] = guard_.state().num_above;
}

std::vector<DiskTensor> PoolLock::State() {
  KeepNumbers();
  std::vector<DiskTensor> list = entropy_.State();
  list.push_back({.name = "lock.owners",
                  .shape = {spec_.experts},
                  .value = Tensor(owners_.data(), DType::kI32, {spec_.experts})});
  std::vector<double>& rows = history_.rows();
  const int64_t window = history_.window(), size = spec_.layers * spec_.experts;
  list.push_back({.name = "lock.choices",
                  .shape = {window, spec_.layers, spec_.experts},
                  .value = Tensor(rows.data(), DType::kF64, {window, size})});
  list.push_back({.name = "lock.numbers",
                  .shape = {kNumNumbers},
                  .value = Tensor(numbers_.data(), DType::kF64, {kNumNumbers})});
  return list;
}

void PoolLock::StateLoaded() {
  if (numbers_[kVersion] != kPresentVersion) {
    throw UserError(Format("the checkpoint's state of moe.lock has version %g; this program knows version %g",
                           numbers_[kVersion], kPresentVersion));
  }
  plan_ = {.freeze_step = static_cast<int64_t>(numbers_[kFreeze]),
           .lock_step = static_cast<int64_t>(numbers_[kLock])};
  observed_step_ = static_cast<int64_t>(numbers_[kObserved]);
  history_.SetNum(std::clamp(static_cast<int>(numbers_[kSnapshots]), 0, history_.window()));
  guard_.state() = {.has_reference = numbers_[kHasReference] != 0,
                    .reference = numbers_[kReference],
                    .num_above = static_cast<int>(numbers_[kNumAbove])};
}

void PoolLock::CheckAt(int64_t step) const {
  Problems problems;
  if (!has_owners() && step > plan_.freeze_step) {
    problems.Add(
        Format("the checkpoint of step %d has no owners of experts, though moe.lock decided on them at "
               "step %d; go on from another checkpoint",
               step, plan_.freeze_step));
  }
  if (!has_owners()) return problems.ThrowIfAny();
  std::vector<int64_t> owned(spec_.layers);
  int64_t no_layers = 0;
  for (const int32_t owner : owners_) {
    if (owner >= 0 && owner < spec_.layers)
      ++owned[owner];
    else
      ++no_layers;
  }
  const int64_t each = spec_.experts / spec_.layers;
  if (no_layers > 0)
    problems.Add(Format("lock.owners: %d experts belong to no layer of the model", no_layers));
  for (int64_t layer = 0; layer < spec_.layers && no_layers == 0; ++layer) {
    if (owned[layer] != each)
      problems.Add(Format("lock.owners: layer %d owns %d experts; must be %d", layer, owned[layer], each));
  }
  problems.ThrowIfAny();
}

}  // namespace unipool
