#include "launcher/reports/run_texts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/saved_state.h"
#include "launcher/data/blend.h"
#include "launcher/data/data_print.h"
#include "launcher/data/data_split.h"
#include "launcher/data/data_tokenizer.h"
#include "launcher/nearest_name.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr size_t kMostNames = 2;
constexpr char kAbsent[] = "absent";
constexpr double kSameShare = 1e-9;

std::string NewestCheckpoint(const std::string& run_dir) {
  try {
    const std::vector<std::string> checkpoints = ListCheckpoints(run_dir);
    return checkpoints.empty() ? "" : checkpoints[0];
  } catch (const UserError&) {
    return "";
  }
}

// The lines "path: 60 bytes, contents 12ab" that a checkpoint holds; older ones hold none.
std::vector<std::string> RecordedData(const std::string& checkpoint) {
  std::vector<std::string> lines;
  try {
    const auto state = nlohmann::json::parse(ReadSavedState(checkpoint).trainer, nullptr, false);
    if (!state.is_object() || !state.contains("data") || !state["data"].is_array()) return {};
    for (const nlohmann::json& line : state["data"]) {
      if (line.is_string()) lines.push_back(line.get<std::string>());
    }
  } catch (const UserError&) {  // damaged
  }
  return lines;
}

// File -> what is in it.
std::map<std::string, std::string> ContentsOf(const std::vector<std::string>& lines) {
  std::map<std::string, std::string> contents;
  for (const std::string& line : lines) {
    const size_t colon = line.rfind(": ");
    if (colon != std::string::npos && line.substr(colon + 2) != kAbsent)
      contents[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return contents;
}

std::vector<TextSource> SourcesOf(const google::protobuf::RepeatedPtrField<std::string>& entries,
                                  const std::map<std::string, std::string>& contents) {
  std::vector<TextSource> sources;
  if (entries.empty()) return sources;
  try {
    for (const BlendEntry& entry : ParseBlend({entries.begin(), entries.end()}, "data"))
      sources.push_back({.name = entry.source, .weight = entry.weight});
  } catch (const UserError&) {  // the words as they are
    for (const std::string& entry : entries) sources.push_back({.name = entry});
  }
  for (TextSource& source : sources) {
    std::string prefix = source.name;
    if (prefix.ends_with(".bin") || prefix.ends_with(".idx")) prefix.resize(prefix.size() - 4);
    for (const std::string& file : {prefix + ".bin", source.name}) {
      const auto found = contents.find(file);
      if (found != contents.end() && source.contents.empty()) source.contents = found->second;
    }
  }
  return sources;
}

std::string TokenizerName(const std::string& checkpoint, const Config& config) {
  try {
    if (!checkpoint.empty()) {
      if (const auto saved = FindTokenizerFile(checkpoint + "/" + kTokenizerFile)) return saved->name;
    }
    const std::optional<TokenizerFile> of_data = TokenizerOfData(config);
    return of_data ? of_data->name : "";
  } catch (const UserError&) {
    return "";
  }
}

bool HaveSameSplit(const Config& a, const Config& b) {
  try {
    const SplitBounds ours = ParseDataSplit(a.data().split()), theirs = ParseDataSplit(b.data().split());
    return std::equal(ours.begin(), ours.end(), theirs.begin(),
                      [](double x, double y) { return std::abs(x - y) <= kSameShare; });
  } catch (const UserError&) {
    return a.data().split() == b.data().split();
  }
}

}  // namespace

RunTexts ReadRunTexts(const std::string& run_dir, const Config& config) {
  const std::string checkpoint = NewestCheckpoint(run_dir);
  std::vector<std::string> lines;
  if (!checkpoint.empty()) lines = RecordedData(checkpoint);
  if (lines.empty()) lines = DescribeData(config);
  const std::map<std::string, std::string> contents = ContentsOf(lines);
  return {.train = SourcesOf(config.data().train(), contents),
          .valid = SourcesOf(config.data().valid(), contents),
          .tokenizer = TokenizerName(checkpoint, config)};
}

bool AreSameSources(const std::vector<TextSource>& a, const std::vector<TextSource>& b) {
  if (a.size() != b.size()) return false;
  double sum_a = 0, sum_b = 0;
  for (const TextSource& source : a) sum_a += source.weight;
  for (const TextSource& source : b) sum_b += source.weight;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool by_contents = !a[i].contents.empty() && !b[i].contents.empty();
    if (by_contents ? a[i].contents != b[i].contents : a[i].name != b[i].name) return false;
    const double share_a = sum_a > 0 ? a[i].weight / sum_a : 0, share_b = sum_b > 0 ? b[i].weight / sum_b : 0;
    if (a.size() > 1 && std::abs(share_a - share_b) > kSameShare) return false;
  }
  return true;
}

bool HaveSameTraining(const Config& a, const RunTexts& texts_a, const Config& b, const RunTexts& texts_b) {
  if (!AreSameSources(texts_a.train, texts_b.train)) return false;
  if (texts_a.valid.empty() != texts_b.valid.empty()) return false;  // one of them trains on all
  return !texts_a.valid.empty() || HaveSameSplit(a, b);
}

bool HaveSameValidation(const Config& a, const RunTexts& texts_a, const Config& b, const RunTexts& texts_b) {
  if (texts_a.valid.empty() != texts_b.valid.empty()) return false;
  if (!texts_a.valid.empty()) return AreSameSources(texts_a.valid, texts_b.valid);
  return AreSameSources(texts_a.train, texts_b.train) && HaveSameSplit(a, b);
}

std::string NamesOf(const std::vector<TextSource>& sources) {
  std::vector<std::string> names;
  for (size_t i = 0; i < sources.size() && i < kMostNames; ++i) names.push_back(sources[i].name);
  const size_t more = sources.size() - names.size();
  return JoinNames(names) + (more > 0 ? Format(" and %d more", more) : "");
}

}  // namespace unipool
