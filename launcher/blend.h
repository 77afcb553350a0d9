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

// The sources of data.train or data.valid (`field`, for messages). Entries are read one after another as
// words, so all of these are the same blend: {"0.7 a", "0.3 b"}, {"0.7,a,0.3,b"}, {"0.7 a 0.3 b"}, {"[(0.7,
// a), (0.3, b)]"},
// {"0.7", "a", "0.3", "b"}. An entry (or what follows its weight) that is the name of an existing source is
// taken whole, blanks and commas included. Errors: UserError: no source, a weight that is not positive or has
// no source, only some sources with a weight.
std::vector<BlendEntry> ParseBlend(const std::vector<std::string>& entries, const std::string& field);

// Which source gives sample j of the blend, and which of its own samples: the source that is furthest behind
// its share, the first one of equals: the largest weight[i] * max(j, 1) - (samples taken from i before j).
// This is Megatron-LM's rule in the same double arithmetic. A pure function of the weights and j: any j may
// be asked in any order.
//
// Counts are noted every 256 samples, as far as asked, and the rest is replayed. Memory: 8 * sources / 256
// bytes a sample (2 MB for 60,000 steps of 512 samples from 2 sources). Time: 1 us a question for 2 sources,
// 2 us for 8; the first question about a late sample, as in a resumed run, 10 to 20 ns for each sample before
// it (0.3 s for 31 million).
class BlendOrder {
 public:
  struct Place {
    int32_t source;
    int64_t sample;  // counted over the source's own samples, without end
  };

  explicit BlendOrder(
      std::vector<double> weights);  // REQUIRES: at least one, all > 0. Their sum need not be 1.

  Place Locate(int64_t sample) const;  // thread-safe

 private:
  int32_t Furthest(int64_t sample, const int64_t* counts) const;

  std::vector<double> weights_;  // sum 1
  mutable std::mutex mutex_;
  mutable std::vector<int64_t> noted_;  // [block, source]: samples taken from the source before the block
};

}  // namespace unipool
