// What training reads: samples of seq_length + 1 tokens, numbered from 0 over the whole run without end.
// Which tokens sample j has depends on the options and j alone, never on who asks or in which order. So every
// layout and every resumed run reads the same.
//
// The tokens of a source's split form one stream: documents one after another, so that a sample may cross
// documents. Sample i of an epoch is tokens i*s .. i*s + s of the stream, both ends included, s = seq_length.
// An epoch has (tokens - 1) / s samples. Example: s = 3 and tokens 0 .. 9 give the samples 0123, 3456, 6789.
// With `sequential` the samples of an epoch come in this order. Otherwise each epoch has a permutation of its
// own, made of seed, split, the source's number and the epoch.
//
// With several sources BlendOrder says whose turn it is. Each source counts its own samples and epochs.
// Sources without weights are mixed in proportion to their samples.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "launcher/data/blend.h"
#include "launcher/data/data_split.h"
#include "launcher/data/token_source.h"

namespace unipool {

struct DatasetOptions {
  std::vector<std::string> train, valid;  // see ParseBlend and OpenTokenSource
  std::string split = "969,30,1";         // shares of train, validation and test, if `valid` is empty
  bool sequential = false;
  int64_t seq_length = 0;  // s
  uint64_t seed = 0;
  int64_t vocab = 0;  // ids must be in [0, vocab)
};

// Of a configuration.
DatasetOptions DatasetOptionsOf(const Config& config);

class TokenDataset {
 public:
  // One split of one source.
  struct Part {
    std::unique_ptr<TokenSource> source;
    int64_t begin = 0, end = 0;  // tokens of the source
    double weight = 0;           // 0: none was given
    int64_t num_samples = 0;     // per epoch
    std::string name;            // as the configuration names it
    uint64_t key = 0;            // of its permutations
  };

  // REQUIRES: at least one part, each with num_samples >= 1; weights for all parts or for none. See
  // OpenDataset.
  TokenDataset(std::vector<Part> parts, const DatasetOptions& options);

  int64_t samples_per_epoch() const { return samples_per_epoch_; }  // of all sources together
  int64_t num_tokens() const { return num_tokens_; }                // of the split, over all sources
  int num_sources() const { return static_cast<int>(parts_.size()); }
  const std::string& source_name(int source) const { return parts_[static_cast<size_t>(source)].name; }

  // What an evaluation over `num_samples` reads of each source, its first samples, and how much the source's
  // mean loss counts. Fewer samples than an epoch's are the first of the blend, and each counts alike. All of
  // them, the whole split, are each sample of each source once, whatever the weights; the sources then count
  // by their weights, or by their samples where they have none. Counts are shares, of sum 1.
  struct Portion {
    int64_t num_samples = 0;
    double share = 0;
  };
  std::vector<Portion> Portions(int64_t num_samples) const;

  // Reads sample `sample`. REQUIRES: tokens.size() == seq_length + 1. Thread-safe. It is a copy, without
  // allocation but for the blend's notes. Throws UserError when a token is not in the vocabulary, with file,
  // id, position and model.vocab.
  void Read(int64_t sample, std::span<int32_t> tokens) const;
  // The same for sample `sample` of one source, counted over its own.
  void ReadOf(int source, int64_t sample, std::span<int32_t> tokens) const;

 private:
  std::vector<Part> parts_;
  std::unique_ptr<const BlendOrder> blend_;  // null for a single part
  const bool sequential_;
  const int64_t seq_length_, vocab_;
  int64_t samples_per_epoch_ = 0, num_tokens_ = 0;
};

// Opens one split. If `valid` names sources, they are the validation split, `train` is used whole, and there
// is no test split. Otherwise each source of `train` is cut by `split`: a Megatron dataset between sequences,
// as Megatron does, and a text file between bytes. Files of up to 2^24 tokens are checked against the
// vocabulary at once, larger ones as they are read. Throws UserError with the problems of all sources:
// missing or damaged files, a bad blend or split, a split too small for one sample, a token outside the
// vocabulary.
std::unique_ptr<TokenDataset> OpenDataset(const DatasetOptions& options, Split split);

}  // namespace unipool
