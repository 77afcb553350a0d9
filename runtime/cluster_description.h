// A cluster as the emulated world (emulated_communicator.h) knows it: how long its wires take, and how fast
// its processors are.
#pragma once

namespace unipool {

struct WireDescription {
  double latency_seconds = 0;
  double bytes_per_second = 0;  // of one rank's link, each way; 0: infinitely fast
  // Time in which so many bytes leave, without the latency.
  double Seconds(double bytes) const { return bytes_per_second > 0 ? bytes / bytes_per_second : 0; }
};

struct ClusterDescription {
  int ranks_per_node = 0;                  // consecutive ranks share a node; 0: all ranks are on one node
  WireDescription intra_node, inter_node;  // between two ranks of one node, and of two nodes
  double compute_scale = 1;                // virtual seconds per second of this machine's processor time
  int NodeOf(int rank) const { return ranks_per_node > 0 ? rank / ranks_per_node : 0; }
};

}  // namespace unipool
