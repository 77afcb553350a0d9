// All layouts of a model on a cluster, by what a plan says of each: `plan --search`. Rows are level.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "launcher/cluster.h"

namespace unipool {

struct SearchOptions {
  std::vector<int> ranks;  // numbers of ranks to try
  double max_memory = 0;   // bytes of a rank; 0: what the cluster has (memory.gigabytes), or no limit
};

// A layout that validates and fits.
struct Layout {
  std::vector<std::string> settings;  // "parallel.stages=4", those that a candidate sets
  int ranks = 0;
  double step = 0, tokens_per_second = 0;
  int64_t memory = 0, memory_twice = 0;  // bytes of the rank that needs most: level rows, twice the rows
  bool is_exact = false;                 // walked as `plan` does: those at the top, and the best ones
  bool is_best = false;                  // no other is as fast with as little memory on as few ranks (Pareto)
};

struct SearchResult {
  std::vector<Layout> layouts;                  // by tokens a second, and among equals by memory
  std::map<std::string, int64_t> refused;       // the first reason, and how many candidates it refused
  std::map<std::string, std::string> examples;  // by reason: the sentence of the first candidate
  std::vector<std::string> left_out;            // sentences: numbers of ranks that were not tried
  int64_t num_candidates = 0;
};

// Candidates are all values of: pool_replicas (divisors of the ranks), stages (1 to layers), experts POOL
// or PER_STAGE, layers per stage (chosen, and even), micro_batch (divisors of the global batch),
// recomputing of experts and of attention, order of the lanes. Settings that the command line gives stay
// as they are: `fixed` names them ("train.micro_batch"). All are walked by the totals of a rank of each
// stage. Those that lead are then walked as `plan` walks them, block by block where ranks are few.
SearchResult SearchLayouts(const Config& config, const Cluster& cluster,
                           const std::vector<std::string>& fixed, const SearchOptions& options);

// Tables for people: the fastest `top`, those that nothing beats, what was refused and why, and the
// command of the fastest. `command`: "unipool train CONFIG a=b", which the layout's settings follow.
// Where no layout validates and fits, a sentence with the reason that refused most.
std::string JoinSettings(const std::vector<std::string>& settings);  // "a=1 b=2"
std::string NoLayoutText(const SearchResult& result);
std::string SearchText(const SearchResult& result, int top, const std::string& command);
std::string SearchJson(const SearchResult& result, int top);

}  // namespace unipool
