// How long what one node sends to another is under way: from when ranks saw it come
// (runtime/arrival_times.h).
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "launcher/traffic_report/joined_traffic.h"

namespace unipool {

// What came from one node to another in an exchange. bytes 0: nothing, or too little to show a rate.
struct PairArrival {
  double bytes = 0;
  // How long it would take on level wires, in the time of a byte through a port; of many nodes roughly.
  double load = 0;
  double ns = 0;        // since both had started it, and the pair's bytes before had come; > 0, at most
  double least_ns = 0;  // at least: until the receiver looked last and did not see it; may be < 0
  double held_ns = 0;   // how long the receiver waited for it; 0: it was there before
};

struct PairExchange {
  std::vector<PairArrival> pairs;  // [from][to] in one list, nodes x nodes
};

// Of each pair the median over exchanges of how many times as long its bytes take as those of the others in
// the exchange: the natural logarithm. NaN: not known, or of far fewer exchanges than most pairs have.
struct PairSlowness {
  int nodes = 0;
  std::vector<double> low, high;  // [from][to]: at least, at most; low is -infinity where bytes mostly came
                                  // before anybody looked
  double Low(int from, int to) const { return low[static_cast<size_t>(from) * nodes + to]; }
  double High(int from, int to) const { return high[static_cast<size_t>(from) * nodes + to]; }
};

class ArrivalPairs {
 public:
  static constexpr int kMostNodes = 16;  // whose level times are worked out in full
  // `moves`: bytes move while a rank computes. Otherwise they do so for certain only while both wait.
  ArrivalPairs(const JoinedTraffic& traffic, const std::vector<int>& node_of_rank, bool moves);
  int nodes() const { return nodes_; }
  // Whether ranks saw when bytes between nodes came.
  bool is_seen() const { return is_seen_; }
  // In order of time: those with two pairs or more, one of which was waited for. Of very many some.
  const std::vector<PairExchange>& exchanges() const { return exchanges_; }
  // Without those of [leave_begin, leave_end).
  PairSlowness Slowness(size_t leave_begin, size_t leave_end) const;

 private:
  struct Times;
  void FindLooks();
  int64_t LastLook(const JoinedExchange& exchange, size_t part, int64_t before) const;
  bool Collect(const JoinedExchange& exchange, bool moves, Times& times) const;
  double BytesPerNs(const std::vector<Times>& all) const;
  void AddLoads(PairExchange& exchange, const std::vector<double>& begins) const;
  void LeaveOutSmall();
  void Compare();

  const JoinedTraffic& traffic_;
  const std::vector<int>& node_of_rank_;
  int nodes_ = 0;
  bool is_seen_ = false;
  // Ends of waits, by communicator and world rank.
  std::map<std::pair<int, int>, std::vector<int64_t>> looks_;
  std::vector<PairExchange> exchanges_;
  std::vector<double> low_, high_;  // [exchange][from][to]
  std::vector<double> counts_;      // [from][to]: exchanges
};

}  // namespace unipool
