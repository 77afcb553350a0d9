// The body of POST /v1/completions, as OpenAI's interface has it.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokens/tokenizer.h"

namespace unipool {

// What a client is answered in place of a result.
class HttpError : public std::runtime_error {
 public:
  HttpError(int status, const std::string& message) : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

// {"error": {"message", "type", "code"}}, as OpenAI's clients read it.
std::string ErrorBody(int status, const std::string& message);

struct CompletionLimits {
  int64_t seq_length = 0, vocab = 0;  // of the model
  int64_t prompts = 256;              // of one request
  int64_t logprobs = 20;              // likeliest tokens of a position
  size_t depth = 8;                   // of lists and objects within each other
};

struct CompletionRequest {
  std::vector<std::vector<int32_t>> prompts;  // tokens; at least one prompt of at least one token
  int64_t max_tokens = 16;
  double temperature = 1, top_p = 1;
  int64_t top_k = 0;  // 0: all; ours
  uint64_t seed = 1;
  std::optional<int64_t> logprobs;  // so many likeliest tokens of each position
  bool echo = false;
  std::vector<std::string> stops;
};

// An empty prompt becomes BeginOfText. A prompt and its max_tokens take at most seq_length + 1 tokens, since
// the last one is no input. Throws HttpError 400 that says what is wrong: no JSON, no such field, or a
// value that cannot be or is not supported.
CompletionRequest ParseCompletionRequest(std::string_view body, const CompletionLimits& limits,
                                         const Tokenizer& tokenizer);

}  // namespace unipool
