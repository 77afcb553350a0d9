#include "parallel/expert_move.h"

#include <algorithm>
#include <vector>

#include "kernels/copy_segments.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

constexpr int64_t kAlignment = 64;

// One exchange of all ranks: at most one expert from each rank to each other.
struct Round {
  std::vector<int> send, recv;  // by rank: local index of the expert before, and after; -1: none
};

// The same number of rounds on every rank.
std::vector<Round> MakeRounds(const ExpertPlacement& from, const ExpertPlacement& to, int own) {
  const int ranks = from.num_ranks();
  std::vector<int> used(static_cast<size_t>(ranks) * ranks);  // rounds taken by each pair of ranks
  std::vector<Round> rounds;
  for (int expert = 0; expert < from.num_experts(); ++expert) {
    const int source = from.owner(expert), target = to.owner(expert);
    if (source == target) continue;
    const size_t round = used[source * ranks + target]++;
    if (round == rounds.size()) rounds.push_back({std::vector<int>(ranks, -1), std::vector<int>(ranks, -1)});
    if (source == own) rounds[round].send[target] = from.local_index(expert);
    if (target == own) rounds[round].recv[source] = to.local_index(expert);
  }
  return rounds;
}

// Of a row of an array, also on a rank that owns none.
int64_t RowBytes(const Tensor& array) {
  int64_t bytes = SizeOf(array.dtype);
  for (int i = 1; i < array.num_dims; ++i) bytes *= array.dim(i);
  return bytes;
}

// Columns [begin, end) of all local rows of an array, moved through the staging memory.
class ColumnMove {
 public:
  ColumnMove(Stream& stream, const Tensor& array, Range columns, char* staging)
      : stream_(stream),
        data_(static_cast<char*>(array.data) + columns.begin),
        row_bytes_(RowBytes(array)),
        bytes_(columns.size()),
        staging_(staging) {}

  void Stage(int64_t rows) {
    std::vector<Segment> segments;
    for (int64_t row = 0; row < rows; ++row) segments.push_back({Place(row), Staged(row), bytes_});
    CopySegments(stream_, segments);
  }
  // Rows that stay here.
  void Keep(const ExpertPlacement& from, const ExpertPlacement& to, int own) {
    std::vector<Segment> segments;
    for (const int expert : to.experts_of(own)) {
      if (from.owner(expert) != own || from.local_index(expert) == to.local_index(expert)) continue;
      segments.push_back({Staged(from.local_index(expert)), Place(to.local_index(expert)), bytes_});
    }
    CopySegments(stream_, segments);
  }
  int64_t Exchange(Communicator& pool, const Round& round, const ExchangeLabel& label) {
    std::vector<SendBlock> send(pool.size());
    std::vector<RecvBlock> recv(pool.size());
    int64_t sent = 0;
    for (int rank = 0; rank < pool.size(); ++rank) {
      if (round.send[rank] >= 0) send[rank] = {.data = Staged(round.send[rank]), .bytes = bytes_};
      if (round.recv[rank] >= 0) recv[rank] = {.data = Place(round.recv[rank]), .bytes = bytes_};
      sent += send[rank].bytes;
    }
    pool.Exchange(send, recv, label);
    return sent;
  }

 private:
  char* Place(int64_t row) const { return data_ + row * row_bytes_; }
  char* Staged(int64_t row) const { return staging_ + row * bytes_; }
  Stream& stream_;
  char* data_;
  int64_t row_bytes_, bytes_;
  char* staging_;
};

}  // namespace

int64_t MoveExperts(Communicator& pool, const ExpertPlacement& from, const ExpertPlacement& to,
                    std::span<const Tensor> arrays, int64_t step, Stream& stream, MemoryMeter& memory,
                    int64_t staging_bytes) {
  CHECK_EQ(from.num_ranks(), pool.size());
  CHECK_EQ(to.num_ranks(), pool.size());
  CHECK_EQ(from.num_experts(), to.num_experts());
  size_t most_rows = 0;
  for (int rank = 0; rank < pool.size(); ++rank) {
    CHECK_EQ(from.experts_of(rank).size(), to.experts_of(rank).size()) << "experts of rank " << rank;
    most_rows = std::max(most_rows, from.experts_of(rank).size());
  }
  const std::vector<Round> rounds = MakeRounds(from, to, pool.rank());
  if (rounds.empty()) return 0;

  // Cut by what the rank with most experts can stage, so that all ranks cut alike.
  const int64_t most_columns =
      std::max(kAlignment, staging_bytes / static_cast<int64_t>(most_rows) / kAlignment * kAlignment);
  int64_t widest = 0, sent = 0;
  for (const Tensor& array : arrays) widest = std::max(widest, std::min(RowBytes(array), most_columns));
  const int64_t own_rows = static_cast<int64_t>(from.experts_of(pool.rank()).size());
  const Buffer staging =
      Buffer::Allocate(memory, MemoryKind::kExchange, std::max<int64_t>(1, own_rows * widest));
  for (const Tensor& array : arrays) {
    CHECK_EQ(array.rows(), own_rows);
    for (int64_t begin = 0; begin < RowBytes(array); begin += most_columns) {
      const Range columns{begin, std::min(RowBytes(array), begin + most_columns)};
      ColumnMove move(stream, array, columns, static_cast<char*>(staging.data()));
      move.Stage(own_rows);
      move.Keep(from, to, pool.rank());
      for (const Round& round : rounds) {
        sent += move.Exchange(pool, round, {.operation = "move experts", .step = step});
      }
    }
  }
  return sent;
}

}  // namespace unipool
