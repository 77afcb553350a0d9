// From a request to its answer, on one rank.
#pragma once

#include <functional>
#include <string>

#include "launcher/serve/completion_request.h"
#include "launcher/tasks/row_scorer.h"

namespace unipool {

class Completer {
 public:
  // All of these must outlive it. `name`: of the model, for answers. REQUIRES: one rank.
  Completer(TrainingEngine& engine, Communicator& world, const Tokenizer& tokenizer, std::string name);

  // The body of the answer. `is_stopped` is asked between tokens and batches. Throws HttpError: 503 when it
  // said so, 500 where the model's answers are no numbers.
  std::string Answer(const CompletionRequest& request, const std::function<bool()>& is_stopped);

  // Throws UserError unless scores of several tokens at once, which evaluations ask for, are those of one
  // token after another.
  void SelfTest();

  const CompletionLimits& limits() const { return limits_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const std::string& name() const { return name_; }

 private:
  // One prompt's part of the answer.
  struct Choice {
    std::vector<int32_t> added;
    std::vector<PositionScores> prompt, continuation;  // of tokens 1.. of the prompt, and of those added
    std::string text;                                  // that was added
    const char* end = "length";
  };
  std::vector<Choice> Score(const CompletionRequest& request, const std::function<bool()>& is_stopped);
  void Continue(const CompletionRequest& request, const std::vector<int32_t>& prompt, Choice& choice,
                const std::function<bool()>& is_stopped);
  PositionScores ScoresOf(std::span<const float> logits, int32_t token, int64_t num_top) const;

  TrainingEngine& engine_;
  Communicator& world_;
  const Tokenizer& tokenizer_;
  const std::string name_;
  const CompletionLimits limits_;
  int64_t num_answers_ = 0;
};

}  // namespace unipool
