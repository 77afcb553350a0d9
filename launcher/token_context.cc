#include "launcher/token_context.h"

#include <algorithm>

#include "launcher/checkpoints/finite_check.h"

namespace unipool {

TokenContext::TokenContext(TrainingEngine& engine)
    : engine_(engine), length_(engine.parts().spec.seq_length) {}

std::span<const float> TokenContext::Feed(int32_t token) {
  if (static_cast<int64_t>(tokens_.size()) == length_) {
    const std::vector<int32_t> later(tokens_.begin() + length_ / 2, tokens_.end());
    tokens_.clear();
    has_lost_ = true;
    for (int32_t old : later) Feed(old);
  }
  const Tensor logits = engine_.NextLogits(token, static_cast<int64_t>(tokens_.size()));
  const std::string problem = FirstNotFinite(logits);
  if (!problem.empty()) {
    throw UserError(
        Format("the model's answer to token %d is no number (logit %s): these weights have diverged; "
               "use an earlier checkpoint",
               token, problem.c_str()));
  }
  tokens_.push_back(token);
  return {logits.as<float>(), static_cast<size_t>(engine_.parts().spec.vocab)};
}

bool TokenContext::Rewind(size_t count) {
  if (has_lost_ || tokens_.size() < count) return false;
  tokens_.resize(count);
  return true;
}

int64_t TokenContext::TokensOutOfReach(int64_t tokens, int64_t length) {
  const int64_t half = std::max<int64_t>(length / 2, 1);
  return tokens <= length ? 0 : (tokens - length + half - 1) / half * half;
}

}  // namespace unipool
