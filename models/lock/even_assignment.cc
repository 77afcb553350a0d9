#include "models/lock/even_assignment.h"

#include <glog/logging.h>

#include <limits>

namespace unipool {
namespace {

constexpr int64_t kInfinity = std::numeric_limits<int64_t>::max() / 4;

class Dealer {
 public:
  Dealer(int bins, int items, std::span<const int64_t> costs)
      : bins_(bins), items_(items), costs_(costs), bin_of_(items, -1), members_(bins), moves_(bins * bins) {
    for (int bin = 0; bin < bins; ++bin) FindMoves(bin);
  }

  EvenAssignment Run() {
    for (int item = 0; item < items_; ++item) Add(item);
    EvenAssignment result{.bin_of = bin_of_};
    for (int item = 0; item < items_; ++item) {
      const int64_t cost = Cost(bin_of_[item], item);
      if (cost >= kForbidden) return {.bin_of = bin_of_, .cost = kForbidden};
      result.cost += cost;
    }
    return result;
  }

 private:
  // What it costs to hand an item of one bin on to another, and which item it is.
  struct Move {
    int64_t cost = kInfinity;
    int item = -1;
  };

  int64_t Cost(int bin, int item) const { return costs_[int64_t{bin} * items_ + item]; }
  Move& MoveOf(int from, int to) { return moves_[from * bins_ + to]; }

  void FindMoves(int from) {
    for (int to = 0; to < bins_; ++to) {
      Move best;
      for (const int item : members_[from]) {
        const int64_t cost = Cost(to, item) - Cost(from, item);
        if (to != from && cost < best.cost) best = {cost, item};
      }
      MoveOf(from, to) = best;
    }
  }

  // Puts the item where it is cheapest. Others make room along the shortest path to a bin that has some.
  void Add(int item) {
    std::vector<int64_t> distance(bins_);
    std::vector<int> before(bins_, -1);
    for (int bin = 0; bin < bins_; ++bin) distance[bin] = Cost(bin, item);
    for (bool shorter = true; shorter;) {
      shorter = false;
      for (int from = 0; from < bins_; ++from) {
        for (int to = 0; to < bins_; ++to) {
          const Move& move = MoveOf(from, to);
          if (move.item < 0 || distance[from] + move.cost >= distance[to]) continue;
          distance[to] = distance[from] + move.cost;
          before[to] = from;
          shorter = true;
        }
      }
    }
    int end = -1;
    for (int bin = 0; bin < bins_; ++bin) {
      const bool has_room = static_cast<int>(members_[bin].size()) < items_ / bins_;
      if (has_room && (end < 0 || distance[bin] < distance[end])) end = bin;
    }
    int bin = end;
    for (; before[bin] >= 0; bin = before[bin]) {
      const int moved = MoveOf(before[bin], bin).item;
      std::erase(members_[before[bin]], moved);
      Put(moved, bin);
    }
    Put(item, bin);
    for (bin = end; bin >= 0; bin = before[bin]) FindMoves(bin);
  }

  void Put(int item, int bin) {
    members_[bin].push_back(item);
    bin_of_[item] = bin;
  }

  const int bins_, items_;
  const std::span<const int64_t> costs_;
  std::vector<int> bin_of_;
  std::vector<std::vector<int>> members_;
  std::vector<Move> moves_;  // [bins * bins]
};

}  // namespace

EvenAssignment AssignEvenly(int bins, int items, std::span<const int64_t> costs) {
  CHECK(bins > 0 && items % bins == 0) << items << " items do not fill " << bins << " bins evenly";
  CHECK_EQ(static_cast<int64_t>(costs.size()), int64_t{bins} * items);
  return Dealer(bins, items, costs).Run();
}

}  // namespace unipool
