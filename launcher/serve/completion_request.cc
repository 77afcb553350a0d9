#include "launcher/serve/completion_request.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "launcher/model_tokenizer.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

[[noreturn]] void Refuse(const std::string& message) {
  throw HttpError(400, message);
}

// Of brackets outside of texts; a text that is no JSON has some depth too.
size_t DepthOf(std::string_view text) {
  size_t depth = 0, most = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') most = std::max(most, ++depth);
    if ((c == ']' || c == '}') && depth > 0) --depth;
  }
  return most;
}

int64_t WholeNumber(const Json& value, const std::string& field, int64_t least, int64_t most) {
  if (!value.is_number_integer()) Refuse(field + " must be a whole number");
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(most))
    Refuse(Format("%s must be at most %d", field, most));
  const auto number = value.get<int64_t>();
  if (number < least || number > most)
    Refuse(Format("%s is %d; must be %d to %d", field, number, least, most));
  return number;
}

double Number(const Json& value, const std::string& field, double least, double most) {
  if (!value.is_number()) Refuse(field + " must be a number");
  const auto number = value.get<double>();
  if (!(number >= least && number <= most))
    Refuse(Format("%s is %g; must be %g to %g", field, number, least, most));
  return number;
}

bool Truth(const Json& value, const std::string& field) {
  if (!value.is_boolean()) Refuse(field + " must be true or false");
  return value.get<bool>();
}

std::vector<std::string> Stops(const Json& value) {
  const Json list = value.is_string() ? Json::array({value}) : value;
  if (!list.is_array() || list.size() > 16) Refuse("stop must be a text or a list of at most 16 texts");
  std::vector<std::string> stops;
  for (const Json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty())
      Refuse("stop must hold texts that are not empty");
    stops.push_back(stop.get<std::string>());
  }
  return stops;
}

std::vector<int32_t> TextPrompt(const std::string& text, const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens;
  tokenizer.Encode(text, tokens);
  return tokens;
}

std::vector<int32_t> TokenPrompt(const Json& list, int64_t vocab) {
  std::vector<int32_t> tokens;
  for (const Json& token : list)
    tokens.push_back(static_cast<int32_t>(WholeNumber(token, "a token of prompt", 0, vocab - 1)));
  return tokens;
}

// A text, a list of texts, a list of tokens, or a list of lists of tokens.
std::vector<std::vector<int32_t>> Prompts(const Json& value, const CompletionLimits& limits,
                                          const Tokenizer& tokenizer) {
  if (value.is_string()) return {TextPrompt(value.get_ref<const std::string&>(), tokenizer)};
  if (!value.is_array() || value.empty())
    Refuse("prompt must be a text, a list of texts, a list of tokens or a list of such lists");
  if (value[0].is_number()) return {TokenPrompt(value, limits.vocab)};
  if (static_cast<int64_t>(value.size()) > limits.prompts)
    Refuse(Format("prompt holds %d prompts; at most %d go into one request", value.size(), limits.prompts));
  std::vector<std::vector<int32_t>> prompts;
  for (const Json& prompt : value) {
    if (prompt.is_string() && value[0].is_string()) {
      prompts.push_back(TextPrompt(prompt.get_ref<const std::string&>(), tokenizer));
    } else if (prompt.is_array() && value[0].is_array()) {
      prompts.push_back(TokenPrompt(prompt, limits.vocab));
    } else {
      Refuse("prompt must hold texts alone or lists of tokens alone");
    }
  }
  return prompts;
}

// Values of fields that change nothing; any other is not supported.
bool IsWithoutEffect(const std::string& field, const Json& value) {
  if (field == "n" || field == "best_of") return value == 1;
  if (field == "presence_penalty" || field == "frequency_penalty") return value == 0;
  if (field == "logit_bias") return value.is_object() && value.empty();
  if (field == "suffix") return value == "";
  if (field == "stream") return value == false;
  return false;
}

void TakeField(const std::string& field, const Json& value, const CompletionLimits& limits,
               CompletionRequest& request) {
  if (field == "max_tokens") {
    request.max_tokens = WholeNumber(value, field, 0, limits.seq_length);
  } else if (field == "temperature") {
    request.temperature = Number(value, field, 0, 100);
  } else if (field == "top_p") {
    request.top_p = Number(value, field, std::numeric_limits<double>::min(), 1);
  } else if (field == "top_k") {
    request.top_k = WholeNumber(value, field, 0, limits.vocab);
  } else if (field == "seed") {
    request.seed = static_cast<uint64_t>(
        WholeNumber(value, field, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()));
  } else if (field == "logprobs") {
    request.logprobs = WholeNumber(value, field, 0, std::min(limits.logprobs, limits.vocab));
  } else if (field == "echo") {
    request.echo = Truth(value, field);
  } else if (field == "stop") {
    request.stops = Stops(value);
  } else if (field == "stream" || field == "n" || field == "best_of" || field == "presence_penalty" ||
             field == "frequency_penalty" || field == "logit_bias" || field == "suffix") {
    if (!IsWithoutEffect(field, value)) Refuse(field + " is not supported with this value");
  } else {
    Refuse("there is no field " + field.substr(0, 100));
  }
}

}  // namespace

std::string ErrorBody(int status, const std::string& message) {
  const char* type = status >= 500 ? "server_error" : "invalid_request_error";
  const Json error{{"error", {{"message", message}, {"type", type}, {"code", status}}}};
  return error.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

CompletionRequest ParseCompletionRequest(std::string_view body, const CompletionLimits& limits,
                                         const Tokenizer& tokenizer) {
  if (DepthOf(body) > limits.depth) Refuse("the body is nested too deep");
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) Refuse("the body is not JSON");
  if (!json.is_object()) Refuse("the body is no JSON object");
  CompletionRequest request;
  for (const auto& [field, value] : json.items()) {
    if (field == "model" || field == "user") {
      if (!value.is_string()) Refuse(field + " must be a text");
    } else if (field == "prompt") {
      request.prompts = Prompts(value, limits, tokenizer);
    } else if (!value.is_null()) {
      TakeField(field, value, limits, request);
    }
  }
  if (request.prompts.empty()) Refuse("there is no prompt");
  for (std::vector<int32_t>& prompt : request.prompts) {
    if (prompt.empty()) prompt.push_back(BeginOfText(tokenizer));
    const auto tokens = static_cast<int64_t>(prompt.size());
    if (tokens + request.max_tokens > limits.seq_length + 1 || tokens > limits.seq_length) {
      Refuse(Format("a prompt of %d tokens and %d more are too many for this model, which sees %d", tokens,
                    request.max_tokens, limits.seq_length));
    }
  }
  return request;
}

}  // namespace unipool
