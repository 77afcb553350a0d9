#include "parallel/pool_balance.h"

#include <algorithm>

namespace unipool {
namespace {

// A communicator takes 32. One that was started so many microbatches ago has arrived.
constexpr int64_t kMostUnderWay = 24;

}  // namespace

PoolBalance::PoolBalance(std::unique_ptr<Communicator> communicator, int64_t size, int max_in_flight)
    : communicator_(std::move(communicator)),
      size_(size),
      entries_(max_in_flight),
      send_(communicator_->size()),
      recv_(communicator_->size()) {
  for (Entry& entry : entries_) {
    entry.sent.resize(size);
    entry.received.resize(size * communicator_->size());
    entry.sum.resize(size);
  }
}

void PoolBalance::Start(int64_t number, std::span<const double> values) {
  CHECK_EQ(static_cast<int64_t>(values.size()), size_);
  const Entry& old = At(std::max<int64_t>(0, number - kMostUnderWay));
  if (old.number == number - kMostUnderWay && !old.is_summed) Sum(old.number);
  Entry& entry = At(number);
  if (entry.number >= 0 && !entry.is_summed) Sum(entry.number);  // nobody asked, but its exchange must end
  entry.number = number;
  entry.is_summed = false;
  std::copy(values.begin(), values.end(), entry.sent.begin());
  const int64_t bytes = size_ * static_cast<int64_t>(sizeof(double));
  for (int p = 0; p < communicator_->size(); ++p) {
    send_[p] = {entry.sent.data(), bytes};
    recv_[p] = {entry.received.data() + p * size_, bytes};
  }
  entry.ticket = communicator_->Start(send_, recv_, {.operation = "balance statistics", .step = number});
}

std::span<const double> PoolBalance::Sum(int64_t number) {
  Entry& entry = At(number);
  CHECK_EQ(entry.number, number) << "balance statistic is not kept";
  if (!entry.is_summed) {
    communicator_->Wait(entry.ticket);
    std::fill(entry.sum.begin(), entry.sum.end(), 0.0);
    for (int p = 0; p < communicator_->size(); ++p) {
      for (int64_t i = 0; i < size_; ++i) entry.sum[i] += entry.received[p * size_ + i];
    }
    entry.is_summed = true;
  }
  return entry.sum;
}

}  // namespace unipool
