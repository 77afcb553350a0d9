// How the losses of a run go: which steps were skipped, and whether a checkpoint is one to go back to.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace unipool {

// What training_state.json says of the losses of a checkpoint, all in nats. NaN: not known.
struct SavedLoss {
  double mean = std::numeric_limits<double>::quiet_NaN();    // of the steps since the last save that counted
  double after = std::numeric_limits<double>::quiet_NaN();   // of one microbatch, with the weights as saved
  double lowest = std::numeric_limits<double>::quiet_NaN();  // mean of a sound checkpoint of the run so far
  bool sound = false;
};

class LossRecord {
 public:
  static constexpr int kMostSkipped = 3;  // in a row; then the run has diverged

  // padded_vocab: rows of the output head.
  LossRecord(int64_t vocab, int64_t padded_vocab);
  // From the checkpoint that the run goes on from, as Json gave it; "" or another text: nothing is known.
  void Continue(const std::string& training_state);
  void AddStep(double loss, bool is_skipped);

  bool has_stepped() const { return has_stepped_; }  // in this process
  int skipped_in_a_row() const { return skipped_in_a_row_; }

  // Of a checkpoint of the weights as they are, whose loss is `after`. It is sound when both losses are
  // finite, at most ln(vocab) + 1, and at most 2 above the run's lowest; 0.1 where the checkpoint before was
  // not sound. ln(vocab) is the loss of guessing. Exactly that of the padded vocabulary is not sound: a model
  // whose numbers overflow inside answers so, since its norms make zeros of them.
  SavedLoss Judge(double after) const;
  void Saved(const SavedLoss& saved);  // the next mean begins

 private:
  bool IsSane(double loss) const;
  double most_, collapsed_;
  double sum_ = 0, lowest_ = std::numeric_limits<double>::quiet_NaN();
  int64_t count_ = 0;
  int skipped_in_a_row_ = 0;
  bool has_stepped_ = false, was_sound_ = true;
};

}  // namespace unipool
