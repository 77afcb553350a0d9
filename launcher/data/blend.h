// Mixing several sources of samples by weight.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace unipool {

struct BlendEntry {
  std::string source;
  double weight = 0;  // 0: none was given
};

// The sources of data.train or data.valid. `field` is the name of the setting, for messages. Entries are read
// one after another as words, so that these are the same blend:
//   {"0.7 a", "0.3 b"}
//   {"0.7,a,0.3,b"}
//   {"0.7 a 0.3 b"}
//   {"[(0.7, a), (0.3, b)]"}
//   {"0.7", "a", "0.3", "b"}
// An entry that is the name of an existing source is taken whole, with its blanks and commas. The same holds
// for what follows a weight, and for what stands between quotes. Words without a comma, bracket or number
// between them are the name of one source, unless each of them is one. Throws UserError when there is no
// source, a weight is not positive or has no source, or only some sources have a weight; a source that does
// not exist is named before that.
std::vector<BlendEntry> ParseBlend(const std::vector<std::string>& entries, const std::string& field);

// Says which source gives sample j of the blend, and which of the source's own samples that is. It is the
// source that is furthest behind its share: the largest weight[i] * max(j, 1) - (samples taken from source i
// before j). Of equals it is the first. This is Megatron-LM's rule in the same double arithmetic. The answer
// is a pure function of the weights and j, so any j may be asked in any order. Example: weights 0.7 and 0.3
// give sources 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, ...
//
// Counts are noted every 256 samples, as far as was asked. The samples after a note are replayed.
// Memory: 8 * sources / 256 bytes a sample, so 2 MB for 60,000 steps of 512 samples from 2 sources.
// Time: 1 us a question for 2 sources, 2 us for 8. The first question about a late sample, as in a resumed
// run, takes 10 to 20 ns for each sample before it (0.3 s for 31 million).
class BlendOrder {
 public:
  struct Place {
    int32_t source;
    int64_t sample;  // counted over the source's own samples, without end
  };

  // REQUIRES: at least one, all > 0. Their sum need not be 1.
  explicit BlendOrder(std::vector<double> weights);

  Place Locate(int64_t sample) const;  // thread-safe
  // How many of the first `num_samples` samples each source gives.
  std::vector<int64_t> Counts(int64_t num_samples) const;
  const std::vector<double>& weights() const { return weights_; }  // sum 1

 private:
  int32_t Furthest(int64_t sample, const int64_t* counts) const;

  std::vector<double> weights_;  // sum 1
  mutable std::mutex mutex_;
  mutable std::vector<int64_t> noted_;  // [block, source]: samples taken from the source before the block
};

}  // namespace unipool
