#include "launcher/data/text_bytes.h"

#include <numbers>
#include <vector>

namespace unipool {
namespace {

// Bytes of each id.
std::vector<int64_t> BytesOfIds(const Tokenizer& tokenizer) {
  std::vector<int64_t> bytes(static_cast<size_t>(tokenizer.vocab_size()), 0);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (id != tokenizer.end_of_text())
      bytes[static_cast<size_t>(id)] = static_cast<int64_t>(tokenizer.Decode({&id, 1}).size());
  }
  return bytes;
}

}  // namespace

double BytesPerToken(const TokenDataset& dataset, int64_t num_samples, int64_t seq_length,
                     const Tokenizer& tokenizer) {
  const std::vector<int64_t> bytes_of_id = BytesOfIds(tokenizer);
  const std::vector<TokenDataset::Portion> portions = dataset.Portions(num_samples);
  std::vector<int32_t> tokens(static_cast<size_t>(seq_length) + 1);
  double mean = 0;
  for (int source = 0; source < dataset.num_sources(); ++source) {
    const TokenDataset::Portion& portion = portions[static_cast<size_t>(source)];
    if (portion.num_samples == 0) continue;
    int64_t bytes = 0;
    for (int64_t sample = 0; sample < portion.num_samples; ++sample) {
      dataset.ReadOf(source, sample, tokens);
      for (size_t i = 1; i < tokens.size(); ++i) {
        const auto id = static_cast<size_t>(tokens[i]);
        if (id < bytes_of_id.size()) bytes += bytes_of_id[id];
      }
    }
    mean +=
        portion.share * static_cast<double>(bytes) / static_cast<double>(portion.num_samples * seq_length);
  }
  return mean;
}

double BitsPerByte(double loss, double bytes_per_token) {
  return loss / bytes_per_token / std::numbers::ln2;
}

}  // namespace unipool
