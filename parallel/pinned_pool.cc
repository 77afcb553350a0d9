#include "parallel/pinned_pool.h"

#include <algorithm>
#include <bit>

namespace unipool {
namespace {

// So many resting pieces that fit are needed to take one: the newest is likely to be still read.
constexpr int kRest = 2;
// A small exchange leaves large pieces to large ones.
constexpr int64_t kSmall = int64_t{1} << 20, kMostTimesTooLarge = 4;

// The next of the sizes 2^k * (1, 1.25, 1.5, 1.75), so that sizes which vary a little settle soon.
int64_t Rounded(int64_t bytes) {
  const int64_t quarter =
      std::max<int64_t>(64 << 10, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes))) / 4);
  return (bytes + quarter - 1) / quarter * quarter;
}

}  // namespace

PinnedPool::~PinnedPool() {
  for (const auto& piece : pieces_) Resize(*piece, 0);
}

void PinnedPool::Resize(Piece& piece, int64_t bytes) {
  if (piece.data) device_.FreePinned(piece.data);
  memory_.Add(MemoryKind::kExchange, bytes - piece.bytes);
  allocated_bytes_ += bytes - piece.bytes;
  piece.bytes = bytes;
  piece.data = bytes > 0 ? static_cast<char*>(device_.AllocatePinned(bytes)) : nullptr;
}

// The smallest that fits, among equals the one that rests longest; null: a piece has to be made or to grow.
PinnedPool::Piece* PinnedPool::TakeResting(int64_t bytes) {
  const auto fits = [&](const Piece* piece) {
    return piece->bytes >= bytes && piece->bytes <= std::max(kMostTimesTooLarge * bytes, kSmall);
  };
  int num_later = static_cast<int>(std::count_if(resting_.begin(), resting_.end(), fits));
  auto best = resting_.end();
  for (auto it = resting_.begin(); it != resting_.end() && num_later >= kRest; ++it) {
    if (!fits(*it)) continue;
    --num_later;
    if (best == resting_.end() || (*it)->bytes < (*best)->bytes) best = it;
  }
  if (best == resting_.end()) return nullptr;
  Piece* piece = *best;
  resting_.erase(best);
  return piece;
}

PinnedPool::Piece& PinnedPool::Take(int64_t bytes, const ExchangeLabel& label) {
  if (Piece* piece = TakeResting(bytes)) {
    device_.WaitOnHost(piece->read, label);
    return *piece;
  }
  // Pieces grow rather than become more where one that is a little too small rests: sizes of a kind vary.
  const auto little_too_small = std::find_if(resting_.begin(), resting_.end(), [&](const Piece* piece) {
    return piece->bytes < bytes && piece->bytes >= bytes / 2;
  });
  Piece* piece;
  if (little_too_small != resting_.end()) {
    piece = *little_too_small;
    resting_.erase(little_too_small);
    device_.WaitOnHost(piece->read, label);
  } else {
    piece = pieces_.emplace_back(std::make_unique<Piece>()).get();
    piece->read = device_.MakeEvent();
    resting_.reserve(pieces_.size());
  }
  Resize(*piece, Rounded(bytes));
  return *piece;
}

}  // namespace unipool
