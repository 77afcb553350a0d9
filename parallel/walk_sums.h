// What sums over ranks cost a walked step (step_walk.h): the rounds of Communicator::ReduceScatterSum and
// AllGatherParts, without the numbers.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/walk_rows.h"
#include "parallel/walk_wire.h"

namespace unipool {

class WalkSums {
 public:
  // All must outlive it.
  WalkSums(const MeshShape& mesh, const ClusterDescription& cluster, const WalkedRanks& walked,
           WalkDetail detail, std::span<WalkedRank> ranks)
      : mesh_(mesh), cluster_(cluster), walked_(walked), detail_(detail), ranks_(ranks) {}

  // Ranks of one number sum together. `elements`: by number of the group.
  struct Groups {
    std::vector<int> of_rank;                 // [world]
    std::map<int, std::vector<int>> members;  // ranks of the job, rising
  };
  using GroupOf = std::function<int(const MeshPosition&)>;
  Groups MakeGroups(const GroupOf& group_of) const;

  using ElementsOf = std::function<int64_t(int walked)>;
  void ReduceScatter(const Groups& groups, const ElementsOf& elements, int element_bytes,
                     int64_t round_bytes);
  void AllGather(const Groups& groups, const ElementsOf& elements, int element_bytes, int64_t round_bytes);

 private:
  // One round: every member sends piece `round` of each other's part (scatter), or of its own (gather).
  struct Round {
    const Groups& groups;
    const ElementsOf& elements;
    int element_bytes = 0;
    int64_t round_bytes = 0;
    bool gathers = false;
  };
  int64_t NumRounds(const Round& sum, int walked) const;
  void Start(const Round& sum, int64_t round, WalkExchange& exchange);
  void StartBlocks(const Round& sum, int64_t round, int walked, WalkExchange& exchange);
  void StartTotals(const Round& sum, int64_t round, int walked, WalkExchange& exchange);
  void Wait(const Round& sum, int64_t round, WalkExchange& exchange);
  ExchangePeers PeersIn(const std::vector<int>& members, int walked) const;
  void Run(const Round& sum);

  const MeshShape mesh_;
  const ClusterDescription& cluster_;
  const WalkedRanks& walked_;
  const WalkDetail detail_;
  const std::span<WalkedRank> ranks_;
};

}  // namespace unipool
