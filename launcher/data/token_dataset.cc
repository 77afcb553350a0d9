#include "launcher/data/token_dataset.h"

#include <algorithm>
#include <array>

#include "runtime/errors.h"
#include "runtime/random.h"

namespace unipool {

namespace {

constexpr int64_t kSmallTokens = 1 << 24;  // a source this small is checked when it is opened

const char* SplitName(Split split) {
  switch (split) {
    case Split::kTrain:
      return "training";
    case Split::kValid:
      return "validation";
    case Split::kTest:
      return "test";
  }
  return "unknown";
}

// What to do where a split has no share.
const char* WithoutShare(Split split) {
  switch (split) {
    case Split::kTrain:
      return "give it one, for example data.split=97,3,0";
    case Split::kValid:
      return "give it one, for example data.split=97,3,0, or sources of its own in data.valid";
    case Split::kTest:
      return "train with one, for example data.split=969,30,1, or evaluate a text that is not in data.train: "
             "--split valid data.valid=FILE";
  }
  return "";
}

void CheckVocabulary(const TokenDataset::Part& part, int64_t vocab) {
  if (part.end - part.begin > kSmallTokens) return;
  std::array<int32_t, 4096> tokens;
  for (int64_t at = part.begin; at < part.end; at += static_cast<int64_t>(tokens.size())) {
    const auto count = static_cast<size_t>(std::min(part.end - at, static_cast<int64_t>(tokens.size())));
    part.source->Read(at, std::span(tokens).first(count), vocab);
  }
}

// What is common to the sources of one split.
struct PartOptions {
  const DatasetOptions& dataset;
  Split split;
  double from, to;  // cumulative shares
  std::string cut;  // the setting that made the split, for messages
};

TokenDataset::Part OpenPart(const BlendEntry& entry, size_t number, const PartOptions& options) {
  const int64_t s = options.dataset.seq_length;
  TokenDataset::Part part = {.source = OpenTokenSource(entry.source), .weight = entry.weight};
  part.name = entry.source;
  part.begin = part.source->Boundary(options.from);
  part.end = part.source->Boundary(options.to);
  part.num_samples = (part.end - part.begin - 1) / s;
  if (options.from == options.to) {
    throw UserError(Format("%s: there is no %s split, since data.split %s gives it no share; %s",
                           part.source->name().c_str(), SplitName(options.split),
                           options.dataset.split.c_str(), WithoutShare(options.split)));
  }
  if (part.end - part.begin <= s) {
    throw UserError(
        Format("%s: its %s split (%s, cut %s) has %d of %d tokens, but one sample takes model.seq_length + 1 "
               "= %d; give more text, a larger share%s or a shorter model.seq_length",
               part.source->name().c_str(), SplitName(options.split), options.cut.c_str(),
               part.source->Cuts().c_str(), part.end - part.begin, part.source->num_tokens(), s + 1,
               options.split == Split::kValid ? ", sources of their own in data.valid" : ""));
  }
  const uint64_t all_orders = RandomBits(HashBytes("order of samples"), options.dataset.seed);
  part.key = RandomBits(all_orders, number << 2 | static_cast<uint64_t>(options.split));
  CheckVocabulary(part, options.dataset.vocab);
  return part;
}

}  // namespace

DatasetOptions DatasetOptionsOf(const Config& config) {
  const DataConfig& data = config.data();
  return {.train = {data.train().begin(), data.train().end()},
          .valid = {data.valid().begin(), data.valid().end()},
          .split = data.split(),
          .sequential = data.order() == DataConfig::SEQUENTIAL,
          .seq_length = config.model().seq_length(),
          .seed = config.train().seed(),
          .vocab = config.model().vocab()};
}

std::unique_ptr<TokenDataset> OpenDataset(const DatasetOptions& options, Split split) {
  CHECK_GE(options.seq_length, 1);
  CHECK_GE(options.vocab, 1);
  const bool own_valid = !options.valid.empty();
  if (own_valid && split == Split::kTest) {
    throw UserError(
        "there is no test split, since data.valid names sources of its own; leave data.valid empty and cut "
        "the test split from data.train with data.split");
  }
  const std::string field = own_valid && split == Split::kValid ? "data.valid" : "data.train";
  PartOptions part_options = {
      .dataset = options, .split = split, .from = 0, .to = 1, .cut = "all of " + field};
  if (!own_valid) {
    const SplitBounds bounds = ParseDataSplit(options.split);
    part_options.from = bounds[static_cast<size_t>(split)];
    part_options.to = bounds[static_cast<size_t>(split) + 1];
    part_options.cut = "data.split " + options.split;
  }
  std::vector<TokenDataset::Part> parts;
  Problems problems;
  for (const BlendEntry& entry : ParseBlend(field == "data.valid" ? options.valid : options.train, field)) {
    try {
      parts.push_back(OpenPart(entry, parts.size(), part_options));
    } catch (const UserError& error) {
      for (const std::string& problem : error.problems()) problems.Add(problem);
    }
  }
  problems.ThrowIfAny();
  return std::make_unique<TokenDataset>(std::move(parts), options);
}

TokenDataset::TokenDataset(std::vector<Part> parts, const DatasetOptions& options)
    : parts_(std::move(parts)),
      sequential_(options.sequential),
      seq_length_(options.seq_length),
      vocab_(options.vocab) {
  CHECK(!parts_.empty());
  std::vector<double> weights;
  for (const Part& part : parts_) {
    CHECK_GE(part.num_samples, 1) << part.source->name();
    samples_per_epoch_ += part.num_samples;
    num_tokens_ += part.end - part.begin;
    weights.push_back(part.weight > 0 ? part.weight : static_cast<double>(part.num_samples));
  }
  if (parts_.size() > 1) blend_ = std::make_unique<BlendOrder>(std::move(weights));
}

std::vector<TokenDataset::Portion> TokenDataset::Portions(int64_t num_samples) const {
  if (!blend_) return {{.num_samples = num_samples, .share = 1}};
  std::vector<Portion> portions(parts_.size());
  const bool is_whole = num_samples >= samples_per_epoch_;
  const std::vector<int64_t> counts = is_whole ? std::vector<int64_t>() : blend_->Counts(num_samples);
  for (size_t i = 0; i < parts_.size(); ++i) {
    portions[i].num_samples = is_whole ? parts_[i].num_samples : counts[i];
    portions[i].share =
        is_whole ? blend_->weights()[i] : static_cast<double>(counts[i]) / static_cast<double>(num_samples);
  }
  return portions;
}

void TokenDataset::Read(int64_t sample, std::span<int32_t> tokens) const {
  CHECK_GE(sample, 0);
  CHECK_EQ(static_cast<int64_t>(tokens.size()), seq_length_ + 1);
  const BlendOrder::Place place = blend_ ? blend_->Locate(sample) : BlendOrder::Place{0, sample};
  ReadOf(place.source, place.sample, tokens);
}

void TokenDataset::ReadOf(int source, int64_t sample, std::span<int32_t> tokens) const {
  const Part& part = parts_[static_cast<size_t>(source)];
  const auto n = static_cast<uint64_t>(part.num_samples);
  const uint64_t epoch = static_cast<uint64_t>(sample) / n;
  uint64_t i = static_cast<uint64_t>(sample) % n;
  if (!sequential_) i = RandomPermutation(RandomBits(part.key, epoch), n, i);
  part.source->Read(part.begin + static_cast<int64_t>(i) * seq_length_, tokens, vocab_);
}

}  // namespace unipool
