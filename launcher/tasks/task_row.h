// A context and what may follow it, as a row of tokens.
#pragma once

#include <string>

#include "launcher/tasks/row_scorer.h"
#include "launcher/tokens/tokenizer.h"

namespace unipool {

struct TaskRow {
  TokenRow row;
  int64_t num_cut = 0;  // tokens of the context that were left out at its begin
};

// As lm-evaluation-harness does it. Blanks at the context's end go to the continuation. Context and
// continuation are encoded as one text, of which the tokens behind the context's own count are scored. An
// empty context is BeginOfText, unless the continuation begins with that token. What is longer than
// seq_length + 1 tokens is cut from the left. Throws UserError where no token is left to score, or where the
// continuation alone is longer than seq_length.
TaskRow TaskRowOf(const std::string& context, const std::string& continuation, const Tokenizer& tokenizer,
                  int64_t seq_length);

}  // namespace unipool
