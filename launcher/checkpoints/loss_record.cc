#include "launcher/checkpoints/loss_record.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace unipool {
namespace {

constexpr double kMostAboveGuessing = 1, kMostAboveLowest = 2, kMostAfterUnsound = 0.1;  // nats

}  // namespace

LossRecord::LossRecord(int64_t vocab, int64_t padded_vocab)
    : most_(std::log(static_cast<double>(vocab)) + kMostAboveGuessing),
      collapsed_(std::log(static_cast<double>(padded_vocab))) {}

void LossRecord::Continue(const std::string& training_state) {
  const auto state = nlohmann::json::parse(training_state, nullptr, false);
  was_sound_ = !state.is_object() || !state.contains("sound") || state["sound"] == true;
  if (state.is_object() && state.contains("lowest_loss") && state["lowest_loss"].is_number()) {
    lowest_ = state["lowest_loss"].get<double>();
  }
}

void LossRecord::AddStep(double loss, bool is_skipped) {
  has_stepped_ = true;
  skipped_in_a_row_ = is_skipped ? skipped_in_a_row_ + 1 : 0;
  if (is_skipped) return;
  sum_ += loss;
  ++count_;
}

bool LossRecord::IsSane(double loss) const {
  const double most_above = was_sound_ ? kMostAboveLowest : kMostAfterUnsound;
  return std::isfinite(loss) && loss <= most_ && !(loss > lowest_ + most_above);
}

SavedLoss LossRecord::Judge(double after) const {
  SavedLoss saved{.mean = sum_ / static_cast<double>(count_), .after = after, .lowest = lowest_};
  saved.sound = IsSane(saved.mean) && IsSane(after) && std::abs(after - collapsed_) > 1e-5;
  if (saved.sound) saved.lowest = std::isnan(lowest_) ? saved.mean : std::min(lowest_, saved.mean);
  return saved;
}

void LossRecord::Saved(const SavedLoss& saved) {
  lowest_ = saved.lowest;
  was_sound_ = saved.sound;
  sum_ = 0;
  count_ = 0;
}

}  // namespace unipool
