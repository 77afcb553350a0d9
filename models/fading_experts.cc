#include "models/fading_experts.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/kept_experts.h"
#include "runtime/errors.h"

namespace unipool {

std::vector<std::string> FadingProblems(const Config& config) {
  const MoeConfig& moe = config.moe();
  const int64_t begin = moe.shrink_begin(), end = moe.shrink_end();
  if (moe.shrink_to() == 0) {
    if (begin == 0 && end == 0 && moe.shrink_by() == ShrinkBy::UCB) return {};
    return {
        "moe.shrink_begin, moe.shrink_end, moe.shrink_by: are used only with moe.shrink_to, the experts that "
        "stay"};
  }
  if (moe.shrink_to() == moe.experts()) return {};  // the pool has shrunk
  std::vector<std::string> problems;
  if (const std::string why = WhyNotShrink(config, moe.shrink_to()); !why.empty())
    problems.push_back("moe.shrink_to: " + why);
  const int64_t least = moe.shrink_by() == ShrinkBy::RANDOM ? 0 : ImportanceHistory::kWindow;
  if (begin < least) {
    problems.push_back(Format("moe.shrink_begin: is %d; must be at least %d%s", begin, least,
                              least == 0 ? "" : ", the steps over which importance is measured"));
  }
  if (end <= begin || end >= config.train().steps()) {
    problems.push_back(
        Format("moe.shrink_end: is %d; must be after moe.shrink_begin (%d) and before train.steps (%d)", end,
               begin, config.train().steps()));
  }
  return problems;
}

bool FadingExperts::IsAmid(int64_t step) const {
  return IsOn() && step >= config_.moe().shrink_begin() && step < config_.moe().shrink_end();
}

bool FadingExperts::IsOver(int64_t step) const {
  return IsOn() && step >= config_.moe().shrink_end();
}

// An expert stays if some layer has it whole; one that fades is whole in none.
std::vector<int64_t> FadingExperts::Kept() const {
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < use_.spec.experts; ++i) {
    bool is_whole = false;
    for (int layer = 0; layer < use_.spec.layers; ++layer) is_whole |= use_.visibility.of(layer)[i] == 1;
    if (is_whole) kept.push_back(i);
  }
  return kept;
}

bool FadingExperts::Apply(int64_t step) {
  if (!IsAmid(step)) return false;
  const MoeConfig& moe = config_.moe();
  std::vector<int64_t> kept = Kept();
  const bool is_new = static_cast<int64_t>(kept.size()) == use_.spec.experts;
  if (is_new) {
    if (moe.shrink_by() != ShrinkBy::RANDOM && !use_.history.exists()) {
      throw UserError(
          Format("moe.shrink_begin: step %d is here, but the importance of experts is measured over ten "
                 "steps, which have not passed since it was first measured; begin later, or set "
                 "moe.shrink_by=RANDOM",
                 step));
    }
    kept = KeptExperts(config_, KeepScore(moe.shrink_by(), use_.history, config_.train().seed()),
                       moe.shrink_to());
  }
  const double x = static_cast<double>(step + 1 - moe.shrink_begin()) /
                   static_cast<double>(moe.shrink_end() - moe.shrink_begin());
  const double attenuation = (1 - std::cos(std::numbers::pi * x)) / 2;
  constexpr float kAlmostOne = 1 - 0x1p-24F;  // those that fade differ from those that stay
  const float factor = x < 1 ? std::min(static_cast<float>(1 - attenuation), kAlmostOne) : 0;
  std::vector<float> factors(use_.spec.experts, factor);
  for (const int64_t i : kept) factors[i] = 1;
  for (int layer = 0; layer < use_.spec.layers; ++layer) use_.visibility.Set(layer, factors);
  use_.VisibilityChanged();
  return is_new;
}

}  // namespace unipool
