// Which layer owns which expert, by how often layers chose them (models/lock/LOCK.md). Every
// expert gets one layer, every layer M / L experts.
//
// First rule: each layer's experts cover the demanded share of its choices, and the sum of their ranks is the
// least (rank 0: the layer's favourite). That is the authors' 0/1 programme without its constants: its index
// term is the same for every assignment. Solved exactly by branch and bound over transport problems, whose
// bound is Lagrange's.
// Second rule, where the first has no solution: the greatest sum of the layers' covered shares, one transport
// problem.
// Integers alone, and work is limited by counting, not by time: every rank finds the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace unipool {

// What was found.
enum class AssignmentRule : uint8_t {
  kCovered,          // by the first rule: the optimum
  kCoveredOpen,      // by the first rule; the work ended before it was known whether a better one exists
  kMostCovered,      // by the second rule: the first has no solution
  kMostCoveredOpen,  // by the second rule; the work ended before the first one had a solution
  kRandom,           // drawn
};

struct OwnerAssignment {
  std::vector<int> owner;  // [M] layer of each expert
  AssignmentRule rule = AssignmentRule::kCovered;
  std::vector<double> coverage;  // [L] share of the layer's choices that went to its experts; 1 without any
  int64_t rank_sum = 0;
};

struct AssignmentOptions {
  int layers = 0, experts = 0;      // L divides M
  double coverage = 0.95;           // demanded of each layer, in [0, 1]; counts to a millionth
  int64_t most_work = 400'000'000;  // steps of search, about as many nanoseconds times three
};

// counts [L * M]: not negative, a layer's sum below 2^53.
OwnerAssignment AssignOwners(std::span<const int64_t> counts, const AssignmentOptions& options);

// A control: a permutation drawn from the seed. `coverage` is that of the counts, [L * M] or empty.
OwnerAssignment DrawOwners(uint64_t seed, std::span<const int64_t> counts, const AssignmentOptions& options);

// Place of each expert in the layer's order, most choices first, ties to the lower index: [L * M].
std::vector<int> RanksOfExperts(std::span<const int64_t> counts, int layers, int experts);

}  // namespace unipool
