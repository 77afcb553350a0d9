// When each rank has started an exchange, for ranks that are threads of one process: a rank that has waited
// looks here at when its peers had started. Nobody locks anything on the path of an exchange.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace unipool {

// Of one communicator.
class StartBoard {
 public:
  explicit StartBoard(int size) : cells_(static_cast<size_t>(size) * kKept) {}
  // By the rank that starts, before any other rank can see a byte of the exchange.
  void Write(int rank, int64_t sequence, int64_t start_ns) {
    Cell& cell = CellOf(rank, sequence);
    cell.sequence.store(-1, std::memory_order_release);
    cell.start_ns.store(start_ns, std::memory_order_release);
    cell.sequence.store(sequence, std::memory_order_release);
  }
  // -1 where the rank has not started it, or has started kKept more since.
  int64_t Read(int rank, int64_t sequence) const {
    const Cell& cell = CellOf(rank, sequence);
    if (cell.sequence.load(std::memory_order_acquire) != sequence) return -1;
    const int64_t start_ns = cell.start_ns.load(std::memory_order_acquire);
    return cell.sequence.load(std::memory_order_acquire) == sequence ? start_ns : -1;
  }

  static constexpr int64_t kKept = 64;

 private:
  struct Cell {
    std::atomic<int64_t> sequence{-1}, start_ns{0};
  };
  Cell& CellOf(int rank, int64_t sequence) { return cells_[rank * kKept + sequence % kKept]; }
  const Cell& CellOf(int rank, int64_t sequence) const { return cells_[rank * kKept + sequence % kKept]; }
  std::vector<Cell> cells_;
};

// Of a job. Any thread may use it.
class TrafficBoard {
 public:
  // The same board for all members of a communicator, which are known by its name and world ranks.
  std::shared_ptr<StartBoard> Of(const std::string& name, const std::vector<int>& members) {
    std::lock_guard lock(mutex_);
    std::weak_ptr<StartBoard>& kept = boards_[{name, members}];
    std::shared_ptr<StartBoard> board = kept.lock();
    if (!board) kept = board = std::make_shared<StartBoard>(static_cast<int>(members.size()));
    return board;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<std::string, std::vector<int>>, std::weak_ptr<StartBoard>> boards_;
};

}  // namespace unipool
