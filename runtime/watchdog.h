// What a rank says when it has waited too long. The communicators of threads and of MPI fill in what they
// know, and the words are the same.
#pragma once

#include <string>
#include <vector>

#include "runtime/exchange_label.h"

namespace unipool {

// "'dispatch forward', step 7, slot 3"; parts that are -1 are left out.
std::string Describe(const ExchangeLabel& label);
// "rank 3" or "ranks 1, 4".
std::string NameRanks(const std::vector<int>& ranks);

struct StuckReport {
  int rank = 0;  // the rank that tells; all numbers here are ranks of the whole job
  ExchangeLabel label;
  double waited_seconds = 0;
  std::vector<int> missing;  // ranks whose part of this exchange has not come
  std::vector<int> silent;   // ranks that are in no exchange at all, the likely cause
  // What the other ranks do: "rank 1 waits in 'loss', step 7 for rank 2", a victim too; "rank 3 has left".
  std::vector<std::string> others;
};
// "stuck: rank 0 has waited 300.0 s in 'dispatch', step 4 for ranks 1, 2; ... The job ends."
std::string StuckMessage(const StuckReport& report);

// Writes a line to the standard error stream in one piece, so that lines of several ranks do not mix. Flushes
// the standard output first.
void PrintErrorLine(const std::string& line);

}  // namespace unipool
