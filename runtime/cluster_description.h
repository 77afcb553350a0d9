// A cluster as the emulated world (emulated_communicator.h) knows it: how long its wires take, and how fast
// its processors are.
#pragma once

#include <vector>

namespace unipool {

// What is left of a link's bandwidth where a rank exchanges blocks of so many bytes with so many others.
struct WireShare {
  int peers = 1;
  double bytes = 0;
  double share = 1;
};

struct WireDescription {
  double latency_seconds = 0;
  double bytes_per_second = 0;  // of one rank's link, each way; 0: infinitely fast
  std::vector<WireShare> shares = {};
  // Time in which so many bytes leave, without the latency.
  double Seconds(double bytes) const { return bytes_per_second > 0 ? bytes / bytes_per_second : 0; }
  // The same of one block of an exchange with so many other ranks. The nearest of `shares` holds, by the
  // ratio of peers and then by that of bytes.
  double Seconds(double bytes, int peers) const {
    return shares.empty() ? Seconds(bytes) : Seconds(bytes) / ShareOf(peers, bytes);
  }
  double ShareOf(int peers, double bytes) const;
};

struct ClusterDescription {
  int ranks_per_node = 0;                  // consecutive ranks share a node; 0: all ranks are on one node
  WireDescription intra_node, inter_node;  // between two ranks of one node, and of two nodes
  double compute_scale = 1;                // virtual seconds per second of this machine's processor time
  double overlap = 1;  // share of the wire that goes on while a rank computes (exchange_timing.h)
  // Ranks' clocks do not run with processor time: who runs ranks says how long work takes
  // (EmulatedRank::Work).
  bool work_is_told = false;
  int NodeOf(int rank) const { return ranks_per_node > 0 ? rank / ranks_per_node : 0; }
};

}  // namespace unipool
