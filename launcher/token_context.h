// The tokens that a model on one rank has read, and what it expects next.
#pragma once

#include <span>
#include <vector>

#include "models/training_engine.h"

namespace unipool {

// Feeds tokens and keeps the last ones in reach: when the context is full, its later half is read again.
class TokenContext {
 public:
  // Of model.seq_length tokens. The engine must outlive it. A new one starts anew.
  explicit TokenContext(TrainingEngine& engine);

  // Logits of the vocabulary for the token behind this one, until the next call. Throws UserError where they
  // are no numbers.
  std::span<const float> Feed(int32_t token);

  size_t size() const { return tokens_.size(); }
  // Forgets all but the first `count` tokens, and true; false where some of these are gone.
  bool Rewind(size_t count);

  // How many of a prompt's tokens are out of reach when all have gone through a context of so many tokens.
  static int64_t TokensOutOfReach(int64_t tokens, int64_t length);

 private:
  TrainingEngine& engine_;
  const int64_t length_;
  bool has_lost_ = false;
  std::vector<int32_t> tokens_;
};

}  // namespace unipool
