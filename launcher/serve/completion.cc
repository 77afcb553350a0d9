#include "launcher/serve/completion.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "launcher/sampler.h"
#include "launcher/serve/token_text.h"
#include "launcher/token_context.h"
#include "launcher/tokens/shown_text.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

int64_t NumTop(const CompletionRequest& request) {
  return std::max<int64_t>(request.logprobs.value_or(0), 1);
}

// The likeliest next token comes with the scores of the prompt, so nothing is left to be written.
bool IsAllScored(const CompletionRequest& request) {
  return request.max_tokens == 0 || (request.max_tokens == 1 && request.temperature == 0);
}

void CheckFinite(const std::vector<PositionScores>& positions) {
  for (const PositionScores& position : positions) {
    if (!std::isfinite(position.target.log_prob) || !std::isfinite(position.top[0].log_prob))
      throw HttpError(500, "the model's answers are no numbers: its weights have diverged");
  }
}

// The lists of an answer's "logprobs", token by token.
class LogprobLists {
 public:
  LogprobLists(const Tokenizer& tokenizer, int64_t num_top) : tokenizer_(tokenizer), num_top_(num_top) {}

  // Null: the first token of a prompt, which nothing stands before.
  void Add(int32_t token, const PositionScores* scores) {
    const std::string name = TokenName(token, tokenizer_);
    lists_["tokens"].push_back(name);
    lists_["text_offset"].push_back(offset_);
    if (token < tokenizer_.vocab_size()) {
      for (const char byte : tokenizer_.Decode({&token, 1})) offset_ += (byte & 0xC0) != 0x80 ? 1 : 0;
    }
    if (!scores) {
      lists_["token_logprobs"].push_back(nullptr);
      lists_["top_logprobs"].push_back(nullptr);
      return;
    }
    lists_["token_logprobs"].push_back(scores->target.log_prob);
    Json top = Json::object();
    for (int64_t i = 0; i < num_top_; ++i)
      top[TokenName(scores->top[i].token, tokenizer_)] = scores->top[i].log_prob;
    if (num_top_ > 0) top[name] = scores->target.log_prob;
    lists_["top_logprobs"].push_back(std::move(top));
  }
  const Json& lists() const { return lists_; }

 private:
  const Tokenizer& tokenizer_;
  const int64_t num_top_;
  int64_t offset_ = 0;  // characters
  Json lists_{{"tokens", Json::array()},
              {"token_logprobs", Json::array()},
              {"top_logprobs", Json::array()},
              {"text_offset", Json::array()}};
};

}  // namespace

Completer::Completer(TrainingEngine& engine, Communicator& world, const Tokenizer& tokenizer,
                     std::string name)
    : engine_(engine),
      world_(world),
      tokenizer_(tokenizer),
      name_(std::move(name)),
      limits_({.seq_length = engine.parts().spec.seq_length, .vocab = engine.parts().spec.vocab}) {
  CHECK_EQ(world.size(), 1);
}

// A row is the prompt and any token behind it, whose own score nobody reads.
std::vector<Completer::Choice> Completer::Score(const CompletionRequest& request,
                                                const std::function<bool()>& is_stopped) {
  std::vector<Choice> choices(request.prompts.size());
  RowScorer scorer(engine_, world_, NumTop(request));
  constexpr size_t kAtOnce = 16;
  for (size_t begin = 0; begin < choices.size(); begin += kAtOnce) {
    if (is_stopped()) throw HttpError(503, "the server stops");
    std::vector<TokenRow> rows;
    for (size_t i = begin; i < std::min(begin + kAtOnce, choices.size()); ++i) {
      rows.push_back({.tokens = request.prompts[i], .first_target = 1});
      rows.back().tokens.push_back(0);
      if (!request.logprobs || !request.echo) rows.back().first_target = rows.back().tokens.size() - 1;
    }
    std::vector<std::vector<PositionScores>> scores = scorer.Score(rows);
    for (size_t i = 0; i < scores.size(); ++i) {
      CheckFinite(scores[i]);
      Choice& choice = choices[begin + i];
      PositionScores next = std::move(scores[i].back());
      scores[i].pop_back();
      choice.prompt = std::move(scores[i]);
      if (!IsAllScored(request) || request.max_tokens == 0) continue;
      next.target = next.top[0];
      choice.added = {next.target.token};
      ShownText shown(request.stops);
      const bool is_end = next.target.token == tokenizer_.end_of_text();
      if (!is_end) choice.text = shown.Add(TokensText(choice.added, tokenizer_)) + shown.Rest();
      if (is_end || shown.has_stopped()) choice.end = "stop";
      choice.continuation.push_back(std::move(next));
    }
  }
  return choices;
}

PositionScores Completer::ScoresOf(std::span<const float> logits, int32_t token, int64_t num_top) const {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  const double norm = most + std::log(sum);
  PositionScores scores{.target = {.token = token, .log_prob = logits[token] - norm}};
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto is_before = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + num_top, order.end(), is_before);
  for (int64_t i = 0; i < num_top; ++i)
    scores.top.push_back({.token = order[i], .log_prob = logits[order[i]] - norm});
  return scores;
}

void Completer::Continue(const CompletionRequest& request, const std::vector<int32_t>& prompt, Choice& choice,
                         const std::function<bool()>& is_stopped) {
  Sampler sampler({.temperature = request.temperature,
                   .top_k = request.top_k,
                   .top_p = request.top_p,
                   .seed = request.seed});
  TokenContext context(engine_);
  ShownText shown(request.stops);
  std::span<const float> logits;
  try {
    for (const int32_t token : prompt) {
      if (is_stopped()) throw HttpError(503, "the server stops");
      logits = context.Feed(token);
    }
    for (int64_t i = 0; i < request.max_tokens; ++i) {
      if (is_stopped()) throw HttpError(503, "the server stops");
      const int32_t token = sampler.Choose(logits, i);
      choice.added.push_back(token);
      choice.continuation.push_back(ScoresOf(logits, token, NumTop(request)));
      if (token == tokenizer_.end_of_text()) {
        choice.end = "stop";
        break;
      }
      if (token < tokenizer_.vocab_size()) choice.text += shown.Add(tokenizer_.Decode({&token, 1}));
      if (shown.has_stopped()) {
        choice.end = "stop";
        break;
      }
      if (i + 1 < request.max_tokens) logits = context.Feed(token);
    }
  } catch (const UserError& error) {
    throw HttpError(500, error.what());
  }
  choice.text += shown.Rest();
}

std::string Completer::Answer(const CompletionRequest& request, const std::function<bool()>& is_stopped) {
  const bool needs_scores = IsAllScored(request) || (request.logprobs && request.echo);
  std::vector<Choice> choices(request.prompts.size());
  if (needs_scores) choices = Score(request, is_stopped);
  int64_t prompt_tokens = 0, added_tokens = 0;
  Json answer{{"id", Format("cmpl-%d", ++num_answers_)},
              {"object", "text_completion"},
              {"created", static_cast<int64_t>(std::time(nullptr))},
              {"model", name_}};
  for (size_t i = 0; i < choices.size(); ++i) {
    const std::vector<int32_t>& prompt = request.prompts[i];
    Choice& choice = choices[i];
    if (!IsAllScored(request)) Continue(request, prompt, choice, is_stopped);
    prompt_tokens += static_cast<int64_t>(prompt.size());
    added_tokens += static_cast<int64_t>(choice.added.size());
    Json entry{{"index", i}, {"text", (request.echo ? TokensText(prompt, tokenizer_) : "") + choice.text}};
    entry["logprobs"] = nullptr;
    if (request.logprobs) {
      LogprobLists lists(tokenizer_, *request.logprobs);
      for (size_t t = 0; t < prompt.size() && request.echo; ++t)
        lists.Add(prompt[t], t == 0 ? nullptr : &choice.prompt[t - 1]);
      for (size_t t = 0; t < choice.added.size(); ++t) lists.Add(choice.added[t], &choice.continuation[t]);
      entry["logprobs"] = lists.lists();
    }
    entry["finish_reason"] = choice.end;
    answer["choices"].push_back(std::move(entry));
  }
  answer["usage"] = {{"prompt_tokens", prompt_tokens},
                     {"completion_tokens", added_tokens},
                     {"total_tokens", prompt_tokens + added_tokens}};
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void Completer::SelfTest() {
  const auto length = std::min<int64_t>(8, limits_.seq_length);
  TokenRow row{.first_target = 1};
  for (int64_t t = 0; t <= length; ++t)
    row.tokens.push_back(static_cast<int32_t>((t * 7919 + 1) % limits_.vocab));
  RowScorer scorer(engine_, world_, 1);
  const std::vector<PositionScores> at_once = scorer.Score({&row, 1})[0];
  TokenContext context(engine_);
  for (int64_t t = 0; t < length; ++t) {
    const std::span<const float> logits = context.Feed(row.tokens[t]);  // throws where they are no numbers
    const double one = ScoresOf(logits, row.tokens[t + 1], 1).target.log_prob;
    const double other = at_once[t].target.log_prob;
    if (std::abs(one - other) <= 1e-3 * std::max(1.0, std::abs(one))) continue;
    throw UserError(
        Format("the self-test failed: token %d of a row scores %g by itself and %g together; this server "
               "would answer wrongly",
               t + 1, one, other));
  }
}

}  // namespace unipool
