#include "launcher/data/batch_reader.h"

#include <algorithm>
#include <span>

namespace unipool {

template <class ReadSample>
Tensor BatchReader::Deal(int64_t num_sequences, const ReadSample& read_sample) {
  const int64_t per_round = micro_batch_ * engine_.data_ranks(), columns = seq_length_ + 1;
  const int64_t rounds = (num_sequences + per_round - 1) / per_round;
  const FileWork work(world_, "reads data");
  tokens_.resize(rounds * micro_batch_ * columns);
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < micro_batch_; ++i) {
      const int64_t sequence = engine_.SequenceIndex(m, i);
      int32_t* out = tokens_.data() + (m * micro_batch_ + i) * columns;
      read_sample(sequence < num_sequences ? sequence : 0, std::span(out, static_cast<size_t>(columns)));
    }
  }
  return Tensor(tokens_.data(), DType::kI32, {rounds, micro_batch_, columns});
}

Tensor BatchReader::FirstRound() {
  return Tensor(tokens_.data(), DType::kI32, {1, micro_batch_, seq_length_ + 1});
}

Tensor BatchReader::Read(int64_t first_sample, int64_t num_sequences) {
  return Deal(num_sequences, [&](int64_t sequence, std::span<int32_t> tokens) {
    dataset_.Read(first_sample + sequence, tokens);
  });
}

Tensor BatchReader::ReadOf(int source, int64_t first_sample, int64_t num_sequences) {
  return Deal(num_sequences, [&](int64_t sequence, std::span<int32_t> tokens) {
    dataset_.ReadOf(source, first_sample + sequence, tokens);
  });
}

std::optional<MeanLosses> MeanLoss(TrainingEngine& engine, BatchReader& reader, int64_t num_sequences,
                                   RunControl* control, RunRequests* heard) {
  MeanLosses losses;
  const TokenDataset& dataset = reader.dataset();
  const std::vector<TokenDataset::Portion> portions = dataset.Portions(num_sequences);
  for (int source = 0; source < dataset.num_sources(); ++source) {
    const TokenDataset::Portion& portion = portions[static_cast<size_t>(source)];
    double loss_sum = 0;
    for (int64_t first = 0; first < portion.num_samples; first += reader.pass()) {
      const int64_t count = std::min(reader.pass(), portion.num_samples - first);
      RunRequests requests;
      if (control) requests = control->Poll();
      loss_sum += engine.EvaluateLossSum(reader.ReadOf(source, first, count), count, requests.count);
      if (!control) continue;
      control->Answer(requests);
      heard->AddAll(requests);
      if (requests.WantsStop()) return std::nullopt;
    }
    if (portion.num_samples == 0) continue;
    const double loss = loss_sum / static_cast<double>(portion.num_samples * reader.seq_length());
    losses.loss += portion.share * loss;
    if (dataset.num_sources() > 1) losses.by_source.push_back({dataset.source_name(source), loss});
  }
  return losses;
}

}  // namespace unipool
