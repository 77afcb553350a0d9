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

int64_t Aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
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
  CHECK_EQ(gradients_.added, gradients_.pieces.size()) << "gradients are under way";
  is_stale_ = true;
  rounds_.clear();
  most_come_ = 0;
  places_in_use_.clear();
  gradients_ = {};
  const int ranks = pool_.size(), own = pool_.rank();
  std::vector<size_t> used(static_cast<size_t>(ranks) * ranks);  // rounds taken by each pair of ranks
  std::vector<std::vector<int>> come;                            // by round and owner
  for (int rank = 0; rank < ranks; ++rank) {
    const std::vector<int> shadows = placement_.shadows_of(rank);
    for (size_t i = 0; i < shadows.size(); ++i) {
      if (shadows[i] < 0) continue;
      const int owner = placement_.owner(shadows[i]);
      const size_t round = used[static_cast<size_t>(owner) * ranks + rank]++;
      if (round == rounds_.size()) {
        rounds_.push_back({std::vector<int>(ranks, -1), std::vector<int>(ranks, -1)});
        come.emplace_back(ranks);
      }
      most_come_ = std::max(most_come_, ++come[round][owner]);
      if (owner == own) {
        rounds_[round].to[rank] = placement_.local_index(shadows[i]);
        places_in_use_.push_back(rounds_[round].to[rank]);
      }
      if (rank == own) {
        rounds_[round].from[owner] =
            static_cast<int>(placement_.experts_of(own).size()) + static_cast<int>(i);
        places_in_use_.push_back(rounds_[round].from[owner]);
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

// All ranks cut alike. At least two pieces are under way at once, so that one is added while the next comes.
void ShadowSync::StartGradients(std::span<const Tensor> arrays, int64_t step) {
  Gradients& g = gradients_;
  CHECK_EQ(g.added, g.pieces.size()) << "gradients are under way";
  g.pieces.clear();
  g.started = g.added = 0;
  g.step = step;
  if (rounds_.empty()) return;
  const int64_t most_bytes = std::max(kAlignment, kStagingBytes / (2 * most_come_) / kAlignment * kAlignment);
  int64_t widest = 0;
  for (const Round& round : rounds_) {
    for (const Tensor& array : arrays) {
      const int64_t row_bytes = RowBytes(array);
      for (int64_t begin = 0; begin < row_bytes; begin += most_bytes) {
        const int64_t end = std::min(row_bytes, begin + most_bytes);
        g.pieces.push_back({.round = &round, .array = array, .begin = begin, .end = end});
        widest = std::max(widest, Aligned(end - begin));
      }
    }
  }
  g.slot_bytes = most_come_ * widest;
  g.most_under_way = std::clamp<size_t>(kStagingBytes / std::max<int64_t>(1, g.slot_bytes), 1, kMostUnderWay);
  StartPieces();
}

void ShadowSync::FinishGradients() {
  Gradients& g = gradients_;
  while (g.added < g.pieces.size()) {
    const Piece& piece = g.pieces[g.added];
    {
      KernelScope scope(stream_, Op::kExchange, 0, 0);
      pool_.Wait(piece.ticket);
    }
    AddPiece(piece, StagedOf(g.added));
    ++g.added;
    StartPieces();
  }
}

char* ShadowSync::StagedOf(size_t piece) const {
  const auto slot = static_cast<int64_t>(piece % gradients_.most_under_way);
  return static_cast<char*>(staging_.data()) + slot * gradients_.slot_bytes;
}

void ShadowSync::StartPieces() {
  Gradients& g = gradients_;
  while (g.started < std::min(g.pieces.size(), g.added + g.most_under_way)) {
    StartPiece(g.pieces[g.started], StagedOf(g.started));
    ++g.started;
  }
}

void ShadowSync::StartPiece(Piece& piece, char* staged) {
  const Round& round = *piece.round;
  const int64_t bytes = piece.end - piece.begin;
  for (int rank = 0; rank < pool_.size(); ++rank) {
    send_[rank] = {};
    recv_[rank] = {};
    if (round.from[rank] >= 0) {
      send_[rank] = {.data = RowOf(piece.array, round.from[rank]) + piece.begin, .bytes = bytes};
    }
    if (round.to[rank] < 0) continue;
    recv_[rank] = {.data = staged, .bytes = bytes};
    staged += Aligned(bytes);
    staging_.Use(staged - static_cast<char*>(staging_.data()));
  }
  piece.ticket = Start({.operation = "shadow gradients", .step = gradients_.step});
}

void ShadowSync::AddPiece(const Piece& piece, const char* staged) {
  const int64_t bytes = piece.end - piece.begin;
  for (int rank = 0; rank < pool_.size(); ++rank) {
    if (piece.round->to[rank] < 0) continue;
    const Tensor own(RowOf(piece.array, piece.round->to[rank]) + piece.begin, piece.array.dtype,
                     {bytes / SizeOf(piece.array.dtype)});
    // What came, then what is there.
    SumInRankOrder(stream_, own, staged, Aligned(bytes), /*rank=*/1, /*size=*/2);
    staged += Aligned(bytes);
  }
}

}  // namespace unipool
