#include "launcher/batch_reader.h"

#include <algorithm>

namespace unipool {

Tensor BatchReader::Read(int64_t first_sample, int64_t num_sequences) {
  const int64_t per_round = micro_batch_ * engine_.data_ranks(), columns = seq_length_ + 1;
  const int64_t rounds = (num_sequences + per_round - 1) / per_round;
  const FileWork work(world_, "reads data");
  tokens_.resize(rounds * micro_batch_ * columns);
  for (int64_t m = 0; m < rounds; ++m) {
    for (int64_t i = 0; i < micro_batch_; ++i) {
      const int64_t sequence = engine_.SequenceIndex(m, i);
      int32_t* out = tokens_.data() + (m * micro_batch_ + i) * columns;
      dataset_.Read(first_sample + (sequence < num_sequences ? sequence : 0),
                    {out, static_cast<size_t>(columns)});
    }
  }
  return Tensor(tokens_.data(), DType::kI32, {rounds, micro_batch_, columns});
}

std::optional<double> MeanLoss(TrainingEngine& engine, BatchReader& reader, int64_t num_sequences,
                               RunControl* control, RunRequests* heard) {
  double loss_sum = 0;
  for (int64_t first = 0; first < num_sequences; first += reader.pass()) {
    const int64_t count = std::min(reader.pass(), num_sequences - first);
    RunRequests requests;
    if (control) requests = control->Poll();
    loss_sum += engine.EvaluateLossSum(reader.Read(first, count), count, requests.count);
    if (!control) continue;
    control->Answer(requests);
    heard->AddAll(requests);
    if (requests.WantsStop()) return std::nullopt;
  }
  return loss_sum / static_cast<double>(num_sequences * reader.seq_length());
}

}  // namespace unipool
