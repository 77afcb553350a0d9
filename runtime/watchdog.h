// What a rank says when it has waited too long. Both transports fill in what they know; the words are the
// same.
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
  int rank = 0;  // who tells; all numbers are ranks of the whole job
  ExchangeLabel label;
  double waited_seconds = 0;
  std::vector<int> missing;  // whose part of this exchange has not come
  std::vector<int> silent;   // ranks of the job that are in no exchange at all: the likely cause
  std::vector<std::string>
      others;  // "rank 1 waits in 'loss', step 7 for rank 2": victims too; "rank 3 has left"
};
std::string StuckMessage(const StuckReport& report);

// Writes one line to the standard error stream in one piece, so that lines of several ranks do not mix.
void PrintErrorLine(const std::string& line);

}  // namespace unipool
