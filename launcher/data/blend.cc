#include "launcher/data/blend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "launcher/data/token_source.h"
#include "runtime/errors.h"

namespace unipool {

namespace {

constexpr int64_t kBlock = 256;  // samples between two notes
constexpr const char* kBetweenWords = " \t\n,()[]\"'";

std::string Trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\n"), end = text.find_last_not_of(" \t\n");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

bool IsNumber(const std::string& word, double* value) {
  char* end = nullptr;
  *value = std::strtod(word.c_str(), &end);
  return !word.empty() && *end == '\0' && std::isfinite(*value);
}

struct Word {
  std::string text;
  bool is_joined = false;  // to the word before it, by blanks alone
};

std::vector<Word> RawWords(const std::string& entry) {
  std::vector<Word> words;
  bool is_joined = false;
  for (size_t at = 0; at < entry.size();) {
    const char letter = entry[at];
    const size_t closing = letter == '"' || letter == '\'' ? entry.find(letter, at + 1) : std::string::npos;
    if (closing != std::string::npos) {
      if (closing > at + 1) words.push_back({entry.substr(at + 1, closing - at - 1)});
      at = closing + 1;
      is_joined = false;
    } else if (std::string_view(kBetweenWords).find(letter) != std::string_view::npos) {
      is_joined = is_joined && (letter == ' ' || letter == '\t' || letter == '\n');
      ++at;
    } else {
      const size_t end = std::min(entry.find_first_of(kBetweenWords, at), entry.size());
      words.push_back({entry.substr(at, end - at), is_joined});
      at = end;
      is_joined = true;
    }
  }
  return words;
}

// Words of an entry: numbers and sources.
std::vector<std::string> Words(const std::string& entry) {
  if (TokenSourceExists(entry)) return {entry};
  const std::vector<Word> raw = RawWords(entry);
  double ignored;
  if (!raw.empty() && IsNumber(raw[0].text, &ignored) && entry.starts_with(raw[0].text)) {
    const std::string rest = Trimmed(entry.substr(raw[0].text.size()));
    if (TokenSourceExists(rest)) return {raw[0].text, rest};
  }
  std::vector<std::string> words;
  for (size_t begin = 0, end = 0; begin < raw.size(); begin = end) {
    const bool is_number = IsNumber(raw[begin].text, &ignored);
    std::string name = raw[begin].text;
    bool all_exist = TokenSourceExists(name);
    for (end = begin + 1; end < raw.size() && raw[end].is_joined; ++end) {
      if (is_number || IsNumber(raw[end].text, &ignored)) break;
      name += ' ' + raw[end].text;
      all_exist = all_exist && TokenSourceExists(raw[end].text);
    }
    if (all_exist) {
      for (size_t i = begin; i < end; ++i) words.push_back(raw[i].text);
    } else {
      words.push_back(name);
    }
  }
  return words;
}

}  // namespace

std::vector<BlendEntry> ParseBlend(const std::vector<std::string>& entries, const std::string& field) {
  const char* name = field.c_str();
  std::vector<BlendEntry> blend;
  std::string weight_text;  // read, but its source not yet
  double weight = 0;
  size_t num_weights = 0;
  for (const std::string& entry : entries) {
    for (const std::string& word : Words(Trimmed(entry))) {
      double number;
      if (IsNumber(word, &number) && !(weight_text.empty() && TokenSourceExists(word))) {
        if (!weight_text.empty()) {
          throw UserError(
              Format("%s: weight %s is followed by %s, not by a source; give each source one weight", name,
                     weight_text.c_str(), word.c_str()));
        }
        if (number <= 0) throw UserError(Format("%s: weight %s must be positive", name, word.c_str()));
        weight_text = word;
        weight = number;
      } else {
        if (!weight_text.empty()) ++num_weights;
        blend.push_back({word, weight});
        weight = 0;
        weight_text.clear();
      }
    }
  }
  if (!weight_text.empty())
    throw UserError(Format("%s: weight %s has no source after it", name, weight_text.c_str()));
  if (blend.empty()) {
    throw UserError(
        Format("%s is empty; name a Megatron dataset (PREFIX of .bin and .idx) or a text file", name));
  }
  if (num_weights != 0 && num_weights != blend.size()) {
    Problems problems;
    for (const BlendEntry& source : blend) {
      if (!TokenSourceExists(source.source))
        problems.Add(Format("%s: %s: no such file", name, source.source.c_str()));
    }
    problems.ThrowIfAny();
    throw UserError(Format("%s: %d of %d sources have a weight; give all of them one, or none", name,
                           num_weights, blend.size()));
  }
  return blend;
}

BlendOrder::BlendOrder(std::vector<double> weights)
    : weights_(std::move(weights)), noted_(weights_.size(), 0) {
  CHECK(!weights_.empty());
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (double& weight : weights_) {
    CHECK_GT(weight, 0);
    weight /= sum;
  }
}

int32_t BlendOrder::Furthest(int64_t sample, const int64_t* counts) const {
  const auto position = static_cast<double>(std::max<int64_t>(sample, 1));
  size_t furthest = 0;
  double most_behind = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    // volatile: rounded to double before the subtraction on every machine, never fused with it, so that ties
    // stay ties.
    const volatile double share = weights_[i] * position;
    const double behind = share - static_cast<double>(counts[i]);
    if (i > 0 && behind <= most_behind) continue;
    furthest = i;
    most_behind = behind;
  }
  return static_cast<int32_t>(furthest);
}

BlendOrder::Place BlendOrder::Locate(int64_t sample) const {
  CHECK_GE(sample, 0);
  const size_t n = weights_.size();
  const int64_t block = sample / kBlock;
  thread_local std::vector<int64_t> counts;
  counts.resize(n);
  {
    std::lock_guard lock(mutex_);
    auto last = static_cast<int64_t>(noted_.size() / n) - 1;
    const auto from = noted_.begin() + std::min(block, last) * static_cast<int64_t>(n);
    std::copy(from, from + static_cast<int64_t>(n), counts.begin());
    for (; last < block; ++last) {
      for (int64_t j = last * kBlock; j < (last + 1) * kBlock; ++j) ++counts[Furthest(j, counts.data())];
      noted_.insert(noted_.end(), counts.begin(), counts.end());
    }
  }
  for (int64_t j = block * kBlock; j < sample; ++j) ++counts[Furthest(j, counts.data())];
  const int32_t source = Furthest(sample, counts.data());
  return {source, counts[source]};
}

std::vector<int64_t> BlendOrder::Counts(int64_t num_samples) const {
  std::vector<int64_t> counts(weights_.size(), 0);
  for (int64_t j = 0; j < num_samples; ++j) ++counts[Furthest(j, counts.data())];
  return counts;
}

}  // namespace unipool
