#include "launcher/lock_check.h"

#include <algorithm>

#include "models/lock/lock_plan.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

class LockCheck {
 public:
  explicit LockCheck(const Config& config) : config_(config), lock_(config.moe().lock()) {}

  std::vector<std::string> Run() {
    if (!HasLock(config_)) {
      Unused();
      return problems_;
    }
    Model();
    Numbers();
    if (problems_.empty()) Timeline();
    return problems_;
  }

 private:
  void Add(const std::string& problem) { problems_.push_back(problem); }

  // Settings of a lock that is not wanted are a mistake.
  void Unused() {
    if (config_.parallel().placement() == ParallelConfig::OWNER_STAGE) {
      Add("parallel.placement: is OWNER_STAGE, but only moe.lock gives experts owners; set SLOT_AWARE, or "
          "moe.lock.assignment");
    }
    const LockConfig defaults;
    if (lock_.entropy_end_fraction() == defaults.entropy_end_fraction() &&
        lock_.lock_fraction() == defaults.lock_fraction() &&
        lock_.entropy_coeff() == defaults.entropy_coeff() &&
        lock_.entropy_target() == defaults.entropy_target() && lock_.coverage() == defaults.coverage() &&
        lock_.ema_window() == defaults.ema_window() && lock_.ema_alpha() == defaults.ema_alpha() &&
        lock_.guard_excess() == defaults.guard_excess() &&
        lock_.guard_consecutive() == defaults.guard_consecutive()) {
      return;
    }
    Add("moe.lock.assignment: is NONE, so no other setting of moe.lock has a use; set it to COUNTS (or to "
        "RANDOM, a control), or leave moe.lock out");
  }

  // What the lock is a method for.
  void Model() {
    const MoeConfig& moe = config_.moe();
    const int layers = config_.model().layers(), experts = moe.experts();
    const auto only = [&](const char* field, const std::string& value, const std::string& wanted) {
      if (value != wanted) Add(Format("%s: is %s; moe.lock needs %s", field, value.c_str(), wanted.c_str()));
    };
    only("moe.router", RouterType::Value_Name(moe.router()), "NORM");
    only("moe.sharing", Sharing::Value_Name(moe.sharing()), "GLOBAL");
    only("moe.balance", Balance::Value_Name(moe.balance()), "POOL_LOSS");
    if (moe.balance() == Balance::POOL_LOSS && moe.balance_coeff() == 0)
      Add("moe.balance_coeff: is 0; moe.lock needs the pool loss, which keeps layers on different experts");
    if (layers < 2) Add("model.layers: is 1; moe.lock gives experts to several layers");
    if (layers < 1 || experts < 1) return;
    if (experts % layers != 0) {
      Add(
          Format("moe.experts: is %d; with moe.lock every layer gets as many, so it must be a multiple of "
                 "model.layers (%d): %d or %d",
                 experts, layers, std::max(1, experts / layers) * layers, (experts / layers + 1) * layers));
      return;
    }
    const int each = experts / layers;
    if (moe.top_k() > each) {
      Add(Format("moe.top_k: is %d; after moe.lock each layer has %d experts (moe.experts / model.layers)",
                 moe.top_k(), each));
    }
    if (lock_.entropy_target() < 1 || lock_.entropy_target() > each) {
      Add(
          Format("moe.lock.entropy_target: is %g; must be from 1 to %d, the experts that each layer gets "
                 "(moe.experts / model.layers)",
                 lock_.entropy_target(), each));
    }
  }

  void Numbers() {
    InRange("moe.lock.entropy_coeff", lock_.entropy_coeff(), 0, 1e6);
    InRange("moe.lock.coverage", lock_.coverage(), 0, 1);
    InRange("moe.lock.guard_excess", lock_.guard_excess(), 0, 1e6);
    InRange("moe.lock.ema_alpha", lock_.ema_alpha(), 1e-6, 1);
    InRange("moe.lock.ema_window", lock_.ema_window(), 1, 1000);
    InRange("moe.lock.guard_consecutive", lock_.guard_consecutive(), 0, 1e6);
    InRange("moe.lock.entropy_end_fraction", lock_.entropy_end_fraction(), 0, 1);
    InRange("moe.lock.lock_fraction", lock_.lock_fraction(), 0, 1);
  }
  void InRange(const char* field, double value, double least, double most) {
    if (value >= least && value <= most) return;
    Add(Format("%s: is %g; must be from %g to %g", field, value, least, most));
  }

  void Timeline() {
    const LockPlan plan = LockPlanOf(config_);
    if (plan.freeze_step == 0 && plan.lock_step == 0 && lock_.assignment() == LockConfig::RANDOM) return;
    if (plan.freeze_step >= 1 && plan.lock_step > plan.freeze_step) return;
    Add(Format(
        "moe.lock: with train.steps %d the owners would be decided at step %d and locked at step %d; the "
        "first must be at least 1 and the second later: raise entropy_end_fraction (%g), lock_fraction "
        "(%g) or train.steps%s",
        config_.train().steps(), plan.freeze_step, plan.lock_step, lock_.entropy_end_fraction(),
        lock_.lock_fraction(),
        lock_.assignment() == LockConfig::RANDOM ? ", or set both fractions to 0: drawn owners from the "
                                                   "first step on"
                                                 : ""));
  }

  const Config& config_;
  const LockConfig& lock_;
  std::vector<std::string> problems_;
};

}  // namespace

std::vector<std::string> LockProblems(const Config& config) {
  return LockCheck(config).Run();
}

}  // namespace unipool
