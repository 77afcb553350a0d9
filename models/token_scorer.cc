#include "models/token_scorer.h"

#include <algorithm>

namespace unipool {
namespace {

// The `count` largest of the logits, of equals the lower id first. One pass where there is one to find.
template <class T>
void Largest(std::span<const T> logits, int64_t count, std::vector<int32_t>& ids) {
  ids.clear();
  const auto is_before = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
    if (static_cast<int64_t>(ids.size()) == count) {
      if (!(logits[id] > logits[ids.back()])) continue;
      ids.pop_back();
    }
    ids.insert(std::upper_bound(ids.begin(), ids.end(), id, is_before), id);
  }
}

}  // namespace

TokenScorer::TokenScorer(int64_t num_top, DeviceContext* device, MemoryMeter& memory)
    : num_top_(num_top), device_(device), memory_(memory), reader_(device) {}

void TokenScorer::Begin(const std::vector<Wanted>& microbatches) {
  ids_.clear();
  begins_.clear();
  scores_.clear();
  for (const Wanted& wanted : microbatches) {
    CHECK_EQ(wanted.rows.size(), wanted.targets.size());
    begins_.push_back(static_cast<int64_t>(ids_.size()));
    ids_.insert(ids_.end(), wanted.rows.begin(), wanted.rows.end());
    scores_.emplace_back(wanted.rows.size());
  }
  for (const Wanted& wanted : microbatches)
    ids_.insert(ids_.end(), wanted.targets.begin(), wanted.targets.end());
  if (!device_ || ids_.empty()) return;
  const auto bytes = static_cast<int64_t>(ids_.size() * sizeof(int32_t));
  if (bytes > ids_on_device_.max_bytes()) {
    ids_on_device_ = Buffer();
    ids_on_device_ = Buffer::Allocate(memory_, MemoryKind::kScratch, bytes);
  }
  device_->Upload(ids_on_device_.data(), ids_.data(), bytes);
}

Tensor TokenScorer::Ids(int which, int microbatch, int64_t first, int64_t count) const {
  const auto all = static_cast<int64_t>(ids_.size());
  void* data = device_ ? ids_on_device_.data() : const_cast<int32_t*>(ids_.data());
  return Tensor(data, DType::kI32, {all}).Rows(which * (all / 2) + begins_[microbatch] + first, count);
}

void TokenScorer::Take(int microbatch, int64_t first, const Tensor& logits, const Tensor& losses) {
  const int64_t count = logits.rows(), vocab = logits.dim(1);
  const std::vector<double> loss = reader_.Read(losses, count);
  const int32_t* targets = ids_.data() + ids_.size() / 2 + begins_[microbatch] + first;
  const auto take = [&]<class T>(const T* numbers) {
    for (int64_t i = 0; i < count; ++i) {
      scores_[microbatch][first + i] =
          ScoresOf(std::span<const T>(numbers + i * vocab, vocab), targets[i], loss[i]);
    }
  };
  if (device_) {
    const std::vector<double> on_host = reader_.Read(logits, count);
    return take(on_host.data());
  }
  DispatchFloat(logits.dtype, [&]<class T>() { take(static_cast<const T*>(logits.as<T>())); });
}

template <class T>
PositionScores TokenScorer::ScoresOf(std::span<const T> logits, int32_t target, double loss) {
  PositionScores scores{.target = {.token = target, .log_prob = -loss}};
  Largest(logits, num_top_, order_);
  for (const int32_t id : order_) {
    const double above = static_cast<double>(logits[id]) - static_cast<double>(logits[target]);
    scores.top.push_back({.token = id, .log_prob = above - loss});
  }
  return scores;
}

}  // namespace unipool
