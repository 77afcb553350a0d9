// Ends a run that the lock makes worse: when the loss of so many validations in a row is above that of the
// freeze by more than an excess.
#pragma once

namespace unipool {

class QualityGuard {
 public:
  // consecutive 0: never ends a run.
  QualityGuard(double excess, int consecutive) : excess_(excess), consecutive_(consecutive) {}

  // What checkpoints hold.
  struct State {
    bool has_reference = false;
    double reference = 0;  // nats
    int num_above = 0;     // validations in a row
  };
  State& state() { return state_; }
  const State& state() const { return state_; }

  void SetReference(double loss) { state_ = {.has_reference = true, .reference = loss}; }
  // The loss of a validation after the reference was set. True: it was one too many.
  bool IsTooHigh(double loss) {
    state_.num_above = ExcessOf(loss) > excess_ ? state_.num_above + 1 : 0;
    return consecutive_ > 0 && state_.num_above >= consecutive_;
  }
  double ExcessOf(double loss) const { return state_.has_reference ? loss - state_.reference : 0; }

 private:
  const double excess_;
  const int consecutive_;
  State state_;
};

}  // namespace unipool
