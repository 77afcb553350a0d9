#include "parallel/shadow_sync.h"

#include <algorithm>

#include "kernels/rank_sum.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr int64_t kAlignment = 64;
constexpr size_t kMostUnderWay = Communicator::kMaxUnderWay / 2;  // the dispatcher needs some

int64_t RowBytes(const Tensor& array) {
  return array.rows() == 0 ? 0 : array.bytes() / array.rows();
}

char* RowOf(const Tensor& array, int row) {
  return static_cast<char*>(array.data) + row * RowBytes(array);
}

}  // namespace

ShadowSync::ShadowSync(Communicator& pool, const ExpertPlacement& placement, Stream& stream,
                       MemoryMeter& memory)
    : pool_(pool),
      placement_(placement),
      stream_(stream),
      staging_(Buffer::Reserve(memory, MemoryKind::kExchange, kStagingBytes + pool.size() * kAlignment)),
      send_(pool.size()),
      recv_(pool.size()) {
  CHECK_EQ(placement.num_ranks(), pool.size());
  under_way_.reserve(kMostUnderWay);
  PlacementChanged();
}

// The same number of rounds on every rank.
void ShadowSync::PlacementChanged() {
  is_stale_ = true;
  rounds_.clear();
  const int ranks = pool_.size(), own = pool_.rank();
  std::vector<size_t> used(static_cast<size_t>(ranks) * ranks);  // rounds taken by each pair of ranks
  for (int rank = 0; rank < ranks; ++rank) {
    const std::vector<int> shadows = placement_.shadows_of(rank);
    for (size_t i = 0; i < shadows.size(); ++i) {
      if (shadows[i] < 0) continue;
      const int owner = placement_.owner(shadows[i]);
      const size_t round = used[static_cast<size_t>(owner) * ranks + rank]++;
      if (round == rounds_.size())
        rounds_.push_back({std::vector<int>(ranks, -1), std::vector<int>(ranks, -1)});
      if (owner == own) rounds_[round].to[rank] = placement_.local_index(shadows[i]);
      if (rank == own) {
        rounds_[round].from[owner] =
            static_cast<int>(placement_.experts_of(own).size()) + static_cast<int>(i);
      }
    }
  }
}

Communicator::Ticket ShadowSync::Start(const ExchangeLabel& label) {
  int64_t bytes = 0;
  for (const SendBlock& block : send_) bytes += block.bytes;
  bytes_sent_ += bytes;
  KernelScope scope(stream_, Op::kExchange, 0, static_cast<double>(bytes));
  return pool_.Start(send_, recv_, label);
}

void ShadowSync::StartWeights(std::span<const Tensor> arrays, int64_t step) {
  CHECK(under_way_.empty());
  if (!is_stale_) return;
  is_stale_ = false;
  for (const Round& round : rounds_) {
    for (const Tensor& array : arrays) {
      for (int rank = 0; rank < pool_.size(); ++rank) {
        send_[rank] = {};
        recv_[rank] = {};
        if (round.to[rank] >= 0) {
          send_[rank] = {.data = RowOf(array, round.to[rank]), .bytes = RowBytes(array)};
        }
        if (round.from[rank] >= 0) {
          recv_[rank] = {.data = RowOf(array, round.from[rank]), .bytes = RowBytes(array)};
        }
      }
      if (under_way_.size() == kMostUnderWay) WaitWeights();
      under_way_.push_back(Start({.operation = "shadow weights", .step = step}));
    }
  }
}

void ShadowSync::WaitWeights() {
  if (under_way_.empty()) return;
  KernelScope scope(stream_, Op::kExchange, 0, 0);
  for (const Communicator::Ticket ticket : under_way_) pool_.Wait(ticket);
  under_way_.clear();
}

void ShadowSync::AddGradients(std::span<const Tensor> arrays, int64_t step) {
  const int64_t most_bytes = std::max(kAlignment, kStagingBytes / pool_.size() / kAlignment * kAlignment);
  for (const Round& round : rounds_) {
    for (const Tensor& array : arrays) {
      const int64_t row_bytes = RowBytes(array);
      for (int64_t begin = 0; begin < row_bytes; begin += most_bytes) {
        AddColumns(array, round, begin, std::min(row_bytes, begin + most_bytes), step);
      }
    }
  }
}

// Bytes [begin, end) of rows.
void ShadowSync::AddColumns(const Tensor& array, const Round& round, int64_t begin, int64_t end,
                            int64_t step) {
  const int64_t bytes = end - begin, stride = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const auto comes = [](int place) { return place >= 0; };
  const int64_t num_come = std::count_if(round.to.begin(), round.to.end(), comes);
  staging_.Use(std::max<int64_t>(1, num_come * stride));
  char* staged = static_cast<char*>(staging_.data());
  for (int rank = 0; rank < pool_.size(); ++rank) {
    send_[rank] = {};
    recv_[rank] = {};
    if (round.from[rank] >= 0) send_[rank] = {.data = RowOf(array, round.from[rank]) + begin, .bytes = bytes};
    if (round.to[rank] < 0) continue;
    recv_[rank] = {.data = staged, .bytes = bytes};
    staged += stride;
  }
  pool_.Wait(Start({.operation = "shadow gradients", .step = step}));
  staged = static_cast<char*>(staging_.data());
  for (int rank = 0; rank < pool_.size(); ++rank) {
    if (round.to[rank] < 0) continue;
    const Tensor own(RowOf(array, round.to[rank]) + begin, array.dtype, {bytes / SizeOf(array.dtype)});
    SumInRankOrder(stream_, own, staged, stride, /*rank=*/1, /*size=*/2);  // what came, then what is there
    staged += stride;
  }
}

}  // namespace unipool
